/* Random scripts: how requests change memory, and how they complete. */
#include "model.h"

#include <string.h>

uint64_t draw(struct generator *g)
{
    uint64_t x = g->state += 0x9e3779b97f4a7c15;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

uint32_t below(struct generator *g, uint32_t limit)
{
    return draw(g) % limit;
}

bool chance(struct generator *g, unsigned percent)
{
    return below(g, 100) < percent;
}

struct line *add(struct batch *batch, enum verb verb, int lane, int end)
{
    if (batch->count == BATCH_LINES)
        die("a batch of the script is longer than it may be");
    struct line *line = &batch->lines[batch->count++];

    *line = (struct line){.verb = verb, .lane = lane, .end = end};
    return line;
}

/* Memory of an end that this batch does not use otherwise; -1 if there is none. */
int64_t room(struct generator *g, int end, uint32_t size, uint32_t align)
{
    uint32_t start = g->cursor[end] + below(g, 40);

    start = (start + align - 1) / align * align;
    if (start + size > MESSAGES)
        return -1;
    g->cursor[end] = start + size;
    return start;
}

/* Elements that cover a range of memory, some of them empty. */
void split(struct generator *g, struct line *line, uint32_t offset, uint32_t size, int most)
{
    int count = size ? 1 + below(g, most) : below(g, 3);

    for (int at = 0; at < count; at++) {
        uint32_t part = at + 1 == count ? size : chance(g, 20) ? 0 : below(g, size + 1);

        line->parts[line->count++] = (struct part){.offset = offset, .length = part};
        offset += part;
        size -= part;
    }
}

void gather_parts(struct generator *g, const struct line *line, unsigned char *bytes)
{
    for (int at = 0; at < line->count; at++) {
        memcpy(bytes, g->memory[line->end] + line->parts[at].offset, line->parts[at].length);
        bytes += line->parts[at].length;
    }
}

void scatter_parts(struct generator *g, const struct line *line, const unsigned char *bytes, uint32_t skip,
                   uint32_t length)
{
    for (int at = 0; at < line->count && length; at++) {
        uint32_t offset = line->parts[at].offset, part = line->parts[at].length;
        uint32_t skipped = skip < part ? skip : part;

        skip -= skipped;
        offset += skipped;
        part -= skipped;
        part = part < length ? part : length;
        memcpy(g->memory[line->end] + offset, bytes, part);
        bytes += part;
        length -= part;
    }
}

void fill_with(struct generator *g, struct sections *s, int end, uint32_t offset, uint32_t length)
{
    if (!length)
        return;
    struct line *line = add(&s->early, FILL, 0, end);

    line->offset = offset;
    line->length = length;
    line->seed = draw(g);
    fill(g->memory[end] + offset, length, line->seed);
}

struct line *done(struct batch *where, const struct line *posted, bool received,
                  enum ibv_wc_status status, enum ibv_wc_opcode opcode)
{
    struct line *line = add(where, DONE, posted->lane, posted->end);

    line->received = received;
    line->id = posted->id;
    line->want = (struct want){.id = posted->id, .status = status, .opcode = opcode};
    return line;
}

static uint32_t new_id(struct generator *g)
{
    return g->next_id++;
}

struct queue *queue_of(struct generator *g, int lane, int end)
{
    return &g->queues[lane][end];
}

/* Posts a receive. */
struct line *add_receive(struct generator *g, struct sections *s, int lane, int end, bool late)
{
    struct line *line = add(late ? &s->late : &s->early, RECV, lane, end);

    line->id = new_id(g);
    return line;
}

void keep_receive(struct generator *g, const struct line *line)
{
    struct queue *queue = queue_of(g, line->lane, line->end);

    if (queue->count == (int)COUNT(queue->posted))
        die("more receives are left in the script than it keeps");
    queue->posted[(queue->first + queue->count++) % COUNT(queue->posted)] = *line;
}

struct line take_receive(struct generator *g, int lane, int end)
{
    struct queue *queue = queue_of(g, lane, end);
    struct line line = queue->posted[queue->first];

    queue->first = (queue->first + 1) % COUNT(queue->posted);
    queue->count--;
    return line;
}

/* Adds a receive for a message of `size` bytes; false if there is no room. */
bool receive_for(struct generator *g, struct sections *s, int lane, int end, uint32_t size, bool late)
{
    uint32_t header = g->lanes[lane].kind == UD ? GRH : 0, slack = chance(g, 30) ? below(g, 100) : 0;
    int64_t offset = room(g, end, header + size + slack, 1);

    if (offset < 0)
        return false;
    struct line *line = add_receive(g, s, lane, end, late);

    if (header)
        line->parts[line->count++] = (struct part){.offset = offset, .length = header};
    split(g, line, offset + header, size + slack, PARTS - !!header);
    keep_receive(g, line);
    return true;
}

void deliver(struct generator *g, struct sections *s, const struct line *send, const unsigned char *bytes,
             uint32_t size)
{
    struct line receive = take_receive(g, send->lane, !send->end);
    bool write = send->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
    uint32_t header = g->lanes[send->lane].kind == UD ? GRH : 0;
    struct line *line = done(&s->done, &receive, true, IBV_WC_SUCCESS, write ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV);

    line->want.length = size + header;
    line->want.with_imm = send->has_imm;
    line->want.imm = send->imm;
    line->want.with_inv = send->opcode == IBV_WR_SEND_WITH_INV;
    if (write)
        return;
    scatter_parts(g, &receive, bytes, header, size);
    if (header) {
        struct line *clear = add(&s->after, CLEAR, receive.lane, receive.end);

        clear->offset = receive.parts[0].offset;
        clear->length = header;
        memset(g->memory[receive.end] + clear->offset, 0, header);
    }
}

static enum ibv_wc_opcode completes_as(enum ibv_wr_opcode opcode)
{
    switch (opcode) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM: return IBV_WC_RDMA_WRITE;
    case IBV_WR_RDMA_READ: return IBV_WC_RDMA_READ;
    case IBV_WR_ATOMIC_CMP_AND_SWP: return IBV_WC_COMP_SWAP;
    case IBV_WR_ATOMIC_FETCH_AND_ADD: return IBV_WC_FETCH_ADD;
    case IBV_WR_BIND_MW: return IBV_WC_BIND_MW;
    case IBV_WR_LOCAL_INV: return IBV_WC_LOCAL_INV;
    default: return IBV_WC_SEND;
    }
}

static bool brings_back(enum ibv_wr_opcode opcode)
{
    return opcode == IBV_WR_RDMA_READ || opcode == IBV_WR_ATOMIC_CMP_AND_SWP || opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
}

/* Finishes a request: flags, its completion. */
void conclude_request(struct generator *g, struct sections *s, struct line *line, uint32_t size)
{
    line->id = new_id(g);
    /* The last request of each queue becomes signaled when the batch is complete. */
    if (chance(g, 70))
        line->flags |= IBV_SEND_SIGNALED;
    if (chance(g, 15))
        line->flags |= IBV_SEND_SOLICITED;
    struct line *previous = g->open[line->lane][line->end];

    if (previous && chance(g, 40))
        previous->more = true;
    g->open[line->lane][line->end] = line;
    struct line *completion = done(&s->done, line, false, IBV_WC_SUCCESS, completes_as(line->opcode));

    completion->want.length = brings_back(line->opcode) ? size : 0;
    s->requests.requests++;
}
