/* Random scripts: choosing requests, and knowing what each must do. */
#include "script.h"

#include <stdlib.h>
#include <string.h>

/* Memory: for messages; for windows; for receives that outlive their batch. */
enum { MESSAGES = 160 << 10, WINDOWS = MESSAGES, WINDOWS_END = 192 << 10, SPARE = WINDOWS_END, SPARE_SIZE = 4096 };

static uint64_t next(struct generator *g)
{
    uint64_t x = g->state += 0x9e3779b97f4a7c15;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static uint32_t below(struct generator *g, uint32_t limit)
{
    return next(g) % limit;
}

static bool chance(struct generator *g, unsigned percent)
{
    return below(g, 100) < percent;
}

void start_script(struct generator *g, struct device *device, uint64_t seed)
{
    *g = (struct generator){
        .state = seed,
        .atomics = device->attr.atomic_cap != IBV_ATOMIC_NONE,
        .windows = device->windows2,
        .mtu = 128u << (device->port.active_mtu < IBV_MTU_1024 ? device->port.active_mtu : IBV_MTU_1024),
        /* The same for every device that has so much, so that its script is the same. */
        .max_inline = device->max_inline < 128 ? device->max_inline : 128,
        .next_id = 1,
        .window_lane = -1,
    };
    static const struct lane_kind kinds[] = {{RC, false}, {RC, true}, {UC, false}, {UD, false}, {UD, true},
                                             {RC, false}, {XRC, true}};

    for (size_t at = 0; at < COUNT(kinds); at++)
        if (kinds[at].kind != XRC || device->xrcd)
            g->lanes[g->lane_count++] = kinds[at];
    for (int end = 0; end < 2; end++) {
        g->memory[end] = malloc(MEMORY);
        if (!g->memory[end])
            die("no memory");
        fill(g->memory[end], MEMORY, seed * 2 + end);
    }
}

void end_script(struct generator *g)
{
    free(g->memory[0]);
    free(g->memory[1]);
}

static struct line *add(struct batch *batch, enum verb verb, int lane, int end)
{
    if (batch->count == BATCH_LINES)
        die("a batch of the script is longer than it may be");
    struct line *line = &batch->lines[batch->count++];

    *line = (struct line){.verb = verb, .lane = lane, .end = end};
    return line;
}

/* What a batch is put together from. */
struct sections {
    struct batch early, requests, late, done, after;
    bool late_only[LANES][2];
};

/* Room in an end's memory that nothing else of this batch uses; -1 if there is none. */
static int64_t room(struct generator *g, int end, uint32_t size, uint32_t align)
{
    uint32_t start = g->cursor[end] + below(g, 40);

    start = (start + align - 1) / align * align;
    if (start + size > MESSAGES)
        return -1;
    g->cursor[end] = start + size;
    return start;
}

static uint32_t size_of_message(struct generator *g, const struct lane_kind *lane)
{
    uint32_t class = below(g, 20), limit = lane->kind == UD ? g->mtu : 20000, size;

    if (class < 2)
        size = 0;
    else if (class < 7)
        size = 1 + below(g, 32);
    else if (class < 12)
        size = 1 + below(g, 300);
    else if (class < 15)
        size = g->mtu - 2 + below(g, 5);
    else if (class < 19)
        size = 1 + below(g, 5000);
    else
        size = 1 + below(g, 20000);
    return size > limit ? limit : size;
}

/* Elements over a stretch of memory, some of them empty. */
static void split(struct generator *g, struct line *line, uint32_t offset, uint32_t size, int most)
{
    int count = size ? 1 + below(g, most) : below(g, 3);

    for (int at = 0; at < count; at++) {
        uint32_t part = at + 1 == count ? size : chance(g, 20) ? 0 : below(g, size + 1);

        line->parts[line->count++] = (struct part){.offset = offset, .length = part};
        offset += part;
        size -= part;
    }
}

static void gather_parts(struct generator *g, const struct line *line, unsigned char *bytes)
{
    for (int at = 0; at < line->count; at++) {
        memcpy(bytes, g->memory[line->end] + line->parts[at].offset, line->parts[at].length);
        bytes += line->parts[at].length;
    }
}

static void scatter_parts(struct generator *g, const struct line *line, const unsigned char *bytes, uint32_t skip,
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

static void fill_with(struct generator *g, struct sections *s, int end, uint32_t offset, uint32_t length)
{
    if (!length)
        return;
    struct line *line = add(&s->early, FILL, 0, end);

    line->offset = offset;
    line->length = length;
    line->seed = next(g);
    fill(g->memory[end] + offset, length, line->seed);
}

static struct line *done(struct batch *where, const struct line *posted, bool received,
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

static struct queue *queue_of(struct generator *g, int lane, int end)
{
    return &g->queues[lane][end];
}

/* Posts a receive. */
static struct line *add_receive(struct generator *g, struct sections *s, int lane, int end, bool late)
{
    struct line *line = add(late ? &s->late : &s->early, RECV, lane, end);

    line->id = new_id(g);
    return line;
}

static void keep_receive(struct generator *g, const struct line *line)
{
    struct queue *queue = queue_of(g, line->lane, line->end);

    if (queue->count == (int)COUNT(queue->posted))
        die("more receives are left in the script than it keeps");
    queue->posted[(queue->first + queue->count++) % COUNT(queue->posted)] = *line;
}

static struct line take_receive(struct generator *g, int lane, int end)
{
    struct queue *queue = queue_of(g, lane, end);
    struct line line = queue->posted[queue->first];

    queue->first = (queue->first + 1) % COUNT(queue->posted);
    queue->count--;
    return line;
}

/* A receive for a message of `size` bytes; false if there is no room. */
static bool receive_for(struct generator *g, struct sections *s, int lane, int end, uint32_t size, bool late)
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

static void deliver(struct generator *g, struct sections *s, const struct line *send, const unsigned char *bytes,
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

/* Ends a request that has been put together: flags, its completion. */
static void conclude_request(struct generator *g, struct sections *s, struct line *line, uint32_t size)
{
    line->id = new_id(g);
    /* The last request of each queue is made a signaled one when the batch is complete. */
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

static bool bound_here(struct generator *g, int lane, int end)
{
    return g->window_lane == lane && g->window_end == end;
}

static enum ibv_wr_opcode choose_opcode(struct generator *g, int lane)
{
    static const enum ibv_wr_opcode all[] = {
        IBV_WR_SEND,       IBV_WR_SEND_WITH_IMM,      IBV_WR_SEND,
        IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_RDMA_READ,
        IBV_WR_RDMA_READ,  IBV_WR_ATOMIC_CMP_AND_SWP, IBV_WR_ATOMIC_FETCH_AND_ADD,
    };
    enum kind kind = g->lanes[lane].kind;
    int count = kind == UD ? 2 : kind == UC ? 5 : g->atomics ? 9 : 7;

    return all[below(g, count)];
}

static void atomic_request(struct generator *g, struct sections *s, int lane, int end, enum ibv_wr_opcode opcode)
{
    int64_t local = room(g, end, 8, 8), remote = room(g, !end, 8, 8);
    uint64_t old, value;

    if (local < 0 || remote < 0)
        return;
    fill_with(g, s, !end, remote, 8);
    struct line *line = add(&s->requests, SEND, lane, end);

    line->opcode = opcode;
    line->target = REGION;
    line->remote = remote;
    line->parts[line->count++] = (struct part){.offset = local, .length = 8};
    memcpy(&old, g->memory[!end] + remote, 8);
    line->compare_add = next(g);
    if (opcode == IBV_WR_ATOMIC_CMP_AND_SWP) {
        if (chance(g, 50))
            line->compare_add = old;
        line->swap = next(g);
        value = old == line->compare_add ? line->swap : old;
    } else {
        value = old + line->compare_add;
    }
    memcpy(g->memory[end] + local, &old, 8);
    memcpy(g->memory[!end] + remote, &value, 8);
    conclude_request(g, s, line, 8);
}

static void read_request(struct generator *g, struct sections *s, int lane, int end, uint32_t size)
{
    static unsigned char bytes[MEMORY];
    int64_t local = room(g, end, size, 1), remote = room(g, !end, size, 1);

    if (local < 0 || remote < 0)
        return;
    fill_with(g, s, !end, remote, size);
    struct line *line = add(&s->requests, SEND, lane, end);

    line->opcode = IBV_WR_RDMA_READ;
    line->target = REGION;
    line->remote = remote;
    split(g, line, local, size, PARTS);
    memcpy(bytes, g->memory[!end] + remote, size);
    scatter_parts(g, line, bytes, 0, size);
    conclude_request(g, s, line, size);
}

/* Sends, and writes with or without imm; `source` is -1 for fresh bytes, else what a read before it brings. */
static void push_request(struct generator *g, struct sections *s, int lane, int end, enum ibv_wr_opcode opcode,
                         uint32_t size, int64_t source)
{
    static unsigned char bytes[MEMORY];
    bool writes = opcode == IBV_WR_RDMA_WRITE || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
    bool reliable = g->lanes[lane].kind == RC || g->lanes[lane].kind == XRC;
    struct queue *queue = queue_of(g, lane, !end);
    bool fenced = source >= 0;
    int64_t remote = 0;
    enum target target = NOTHING;

    /* A receive that an earlier batch has left there takes this message, so it must fit. */
    if (opcode != IBV_WR_RDMA_WRITE && queue->count && !writes && size > SPARE_SIZE - GRH)
        size = below(g, SPARE_SIZE - GRH);
    if (writes) {
        target = REGION;
        remote = room(g, !end, size, 1);
        if (bound_here(g, lane, !end) && chance(g, 60) && g->window_cursor + size <= g->window_length) {
            target = WINDOW;
            remote = g->window_offset + g->window_cursor;
            g->window_cursor += size;
        }
        if (remote < 0)
            return;
    }
    if (!fenced) {
        source = room(g, end, size, 1);
        if (source < 0)
            return;
    }
    if (opcode != IBV_WR_RDMA_WRITE && !queue->count) {
        if (reliable && chance(g, 15))
            s->late_only[lane][!end] = true;
        if (!receive_for(g, s, lane, !end, writes ? below(g, 20) : size, s->late_only[lane][!end]))
            return;
    }
    if (!fenced)
        fill_with(g, s, end, source, size);
    struct line *line = add(&s->requests, SEND, lane, end);

    line->opcode = opcode;
    line->target = target;
    line->remote = remote;
    if (opcode == IBV_WR_SEND_WITH_IMM || opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
        line->has_imm = true;
        line->imm = next(g);
    }
    split(g, line, source, size, PARTS);
    if (fenced)
        line->flags |= IBV_SEND_FENCE;
    gather_parts(g, line, bytes);
    if (!fenced && size <= g->max_inline && chance(g, 40)) {
        line->flags |= IBV_SEND_INLINE;
        /* The player changes the source when it is posted. */
        for (uint32_t at = 0; at < size; at++)
            g->memory[end][source + at] ^= 0xff;
    }
    conclude_request(g, s, line, size);
    if (writes)
        memcpy(g->memory[!end] + remote, bytes, size);
    if (opcode != IBV_WR_RDMA_WRITE)
        deliver(g, s, line, bytes, size);
}

/* A read, and behind a fence a send of what it brought. */
static void fenced_pair(struct generator *g, struct sections *s, int lane, int end)
{
    uint32_t size = 1 + below(g, 3000);
    int before = s->requests.count;

    read_request(g, s, lane, end, size);
    if (s->requests.count == before)
        return;
    struct line *read = &s->requests.lines[s->requests.count - 1];

    push_request(g, s, lane, end, chance(g, 50) ? IBV_WR_SEND : IBV_WR_RDMA_WRITE, size, read->parts[0].offset);
}

static void add_request(struct generator *g, struct sections *s, int lane, int end)
{
    enum kind kind = g->lanes[lane].kind;
    enum ibv_wr_opcode opcode = choose_opcode(g, lane);
    uint32_t size = size_of_message(g, &g->lanes[lane]);

    if ((kind == RC || kind == XRC) && chance(g, 8))
        return fenced_pair(g, s, lane, end);
    switch (opcode) {
    case IBV_WR_ATOMIC_CMP_AND_SWP:
    case IBV_WR_ATOMIC_FETCH_AND_ADD: return atomic_request(g, s, lane, end, opcode);
    case IBV_WR_RDMA_READ: return read_request(g, s, lane, end, size);
    default: return push_request(g, s, lane, end, opcode, size, -1);
    }
}

/* Binds a window, or ends the one that is bound. */
static void window_request(struct generator *g, struct sections *s)
{
    struct line *line;

    if (g->window_lane < 0) {
        int lane = below(g, g->lane_count);

        if (g->lanes[lane].kind != RC)
            return;
        g->window_lane = lane;
        g->window_end = below(g, 2);
        g->window_offset = WINDOWS + below(g, 10000);
        g->window_length = 1 + below(g, WINDOWS_END - g->window_offset - 1);
        /* Used from the next batch on, when its key is known to both ends. */
        g->window_cursor = g->window_length;
        line = add(&s->requests, SEND, lane, g->window_end);
        line->opcode = IBV_WR_BIND_MW;
        line->offset = g->window_offset;
        line->length = g->window_length;
        conclude_request(g, s, line, 0);
        return;
    }
    /* Requests of this batch go through it. */
    if (g->window_cursor)
        return;
    if (chance(g, 50)) {
        line = add(&s->requests, SEND, g->window_lane, g->window_end);
        line->opcode = IBV_WR_LOCAL_INV;
        line->target = WINDOW;
        conclude_request(g, s, line, 0);
    } else {
        push_request(g, s, g->window_lane, !g->window_end, IBV_WR_SEND_WITH_INV, 1 + below(g, 200), -1);
    }
    g->window_lane = -1;
}

/* A request that fails, what is flushed behind it, and the lane set up anew. */
static void fault(struct generator *g, struct sections *s, int lane, int end)
{
    enum { KEY, REMOTE_KEY, REMOTE_END, MISALIGNED, SHORT, RECEIVE_KEY, KINDS };
    bool reliable = g->lanes[lane].kind == RC || g->lanes[lane].kind == XRC;
    struct queue *queue = queue_of(g, lane, !end);
    int kind = reliable ? below(g, KINDS) : KEY;
    uint32_t size = 20 + below(g, 3000);
    enum ibv_wc_status sender = IBV_WC_LOC_PROT_ERR, receiver = IBV_WC_SUCCESS;
    uint32_t rxe_sender = 0, rxe_receiver = BIT_OF(IBV_WC_LOC_QP_OP_ERR);

    if (kind >= SHORT && queue->count)
        kind = REMOTE_KEY;
    /* rxe does not take such a request. */
    if (kind == MISALIGNED && (!g->atomics || options.rxe))
        kind = REMOTE_END;
    if (g->lanes[lane].kind == UD && size > g->mtu)
        size = g->mtu;
    if (kind >= SHORT) {
        int64_t offset = room(g, !end, size, 1);

        if (offset < 0)
            return;
        struct line *line = add_receive(g, s, lane, !end, s->late_only[lane][!end]);

        line->parts[line->count++] =
            (struct part){.offset = offset, .length = size - (kind == SHORT), .bad = kind == RECEIVE_KEY};
        keep_receive(g, line);
    }
    int64_t source = room(g, end, size, 8), target = room(g, !end, size, 8);

    if (source < 0 || target < 0)
        die("a faulty request found no room");
    struct line *line = add(&s->requests, SEND, lane, end);

    line->parts[line->count++] = (struct part){.offset = source, .length = size, .bad = kind == KEY};
    line->opcode = IBV_WR_SEND;
    switch (kind) {
    case KEY:
        rxe_sender = BIT_OF(IBV_WC_LOC_QP_OP_ERR);
        if (reliable && chance(g, 50)) {
            line->opcode = chance(g, 50) ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ;
            line->target = REGION;
            line->remote = target;
        }
        break;
    case REMOTE_KEY:
    case REMOTE_END:
        line->opcode = chance(g, 50) ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ;
        line->target = REGION;
        line->remote = kind == REMOTE_END ? MEMORY - (int64_t)size + 1 + below(g, size) : target;
        line->bad_key = kind == REMOTE_KEY;
        sender = IBV_WC_REM_ACCESS_ERR;
        break;
    case MISALIGNED:
        line->opcode = chance(g, 50) ? IBV_WR_ATOMIC_CMP_AND_SWP : IBV_WR_ATOMIC_FETCH_AND_ADD;
        line->parts[0].length = 8;
        line->target = REGION;
        line->remote = target + 1 + below(g, 7);
        sender = IBV_WC_REM_INV_REQ_ERR;
        break;
    case SHORT:
        sender = IBV_WC_REM_INV_REQ_ERR;
        receiver = IBV_WC_LOC_LEN_ERR;
        rxe_sender = BIT_OF(IBV_WC_REM_OP_ERR);
        rxe_receiver |= BIT_OF(IBV_WC_REM_INV_REQ_ERR);
        break;
    case RECEIVE_KEY:
        sender = IBV_WC_REM_OP_ERR;
        receiver = IBV_WC_LOC_PROT_ERR;
        break;
    }
    conclude_request(g, s, line, size);
    s->done.lines[s->done.count - 1].want = (struct want){.id = line->id, .status = sender, .rxe = rxe_sender};
    if (kind >= SHORT) {
        struct line taken = take_receive(g, lane, !end);
        struct line *clear = add(&s->after, CLEAR, lane, !end);

        done(&s->done, &taken, true, receiver, IBV_WC_RECV)->want.rxe = rxe_receiver;
        clear->offset = taken.parts[0].offset;
        clear->length = taken.parts[0].length;
        memset(g->memory[!end] + clear->offset, 0, clear->length);
    }
    for (unsigned behind = below(g, 4); behind > 0; behind--) {
        line = add(&s->requests, SEND, lane, end);
        line->opcode = IBV_WR_SEND;
        split(g, line, source, below(g, size), PARTS);
        conclude_request(g, s, line, 0);
        s->done.lines[s->done.count - 1].want = (struct want){.id = line->id, .status = IBV_WC_WR_FLUSH_ERR};
    }
}

/* A receive that nothing in this batch takes. */
static void spare_receive(struct generator *g, struct sections *s, int lane, int end)
{
    struct queue *queue = queue_of(g, lane, end);
    uint32_t header = g->lanes[lane].kind == UD ? GRH : 0, offset;

    for (int slot = 0; slot < 2; slot++) {
        bool used = false;

        offset = SPARE + (2 * lane + slot) * SPARE_SIZE;
        for (int at = 0; at < queue->count; at++)
            used |= queue->posted[(queue->first + at) % COUNT(queue->posted)].parts[0].offset == offset;
        if (used)
            continue;
        struct line *line = add_receive(g, s, lane, end, s->late_only[lane][end]);

        if (header)
            line->parts[line->count++] = (struct part){.offset = offset, .length = header};
        line->parts[line->count++] = (struct part){.offset = offset + header, .length = SPARE_SIZE - header};
        keep_receive(g, line);
        return;
    }
}

/* An unreliable write is known to be there by a message behind it. */
static void settle(struct generator *g, struct sections *s)
{
    for (int lane = 0; lane < g->lane_count; lane++)
        for (int end = 0; end < 2; end++) {
            struct line *last = g->open[lane][end];

            if (g->lanes[lane].kind == UC && last && last->opcode == IBV_WR_RDMA_WRITE)
                push_request(g, s, lane, end, IBV_WR_SEND, 0, -1);
        }
}

/* Moves a lane to ERR and back; its own receives are flushed, a shared queue's stay. */
static void renew(struct generator *g, struct batch *batch, int lane)
{
    add(batch, BREAK, lane, 0);
    for (int end = 0; end < 2; end++) {
        struct queue *queue = queue_of(g, lane, end);

        while (!g->lanes[lane].srq && queue->count) {
            struct line taken = take_receive(g, lane, end);

            done(batch, &taken, true, IBV_WC_WR_FLUSH_ERR, IBV_WC_RECV);
        }
    }
    add(batch, CONNECT, lane, 0);
}

static void append(struct batch *batch, const struct batch *section)
{
    for (int at = 0; at < section->count; at++)
        *add(batch, section->lines[at].verb, 0, 0) = section->lines[at];
}

/* Gives the completions in the order of their queues, without those that nobody asked for. */
static void append_done(struct generator *g, struct batch *batch, const struct sections *s)
{
    for (int lane = 0; lane < g->lane_count; lane++)
        for (int end = 0; end < 2; end++)
            for (int received = 0; received < 2; received++)
                for (int at = 0; at < s->done.count; at++) {
                    const struct line *line = &s->done.lines[at];
                    bool asked = received || line->want.status != IBV_WC_SUCCESS;

                    if (line->lane != lane || line->end != end || line->received != received)
                        continue;
                    for (int request = 0; request < s->requests.count && !asked; request++)
                        asked = s->requests.lines[request].id == line->id &&
                                s->requests.lines[request].flags & IBV_SEND_SIGNALED;
                    if (asked)
                        *add(batch, DONE, lane, end) = *line;
                }
}

void next_batch(struct generator *g, struct batch *batch, unsigned most)
{
    static struct sections s;
    unsigned wanted = 1 + below(g, most < 14 ? most : 14);
    int broken = -1, breaker = below(g, 2);

    memset(&s, 0, sizeof s);
    memset(g->open, 0, sizeof g->open);
    batch->count = 0;
    g->cursor[0] = g->cursor[1] = 0;
    if (g->window_lane >= 0)
        g->window_cursor = 0;
    if (chance(g, 15)) {
        broken = below(g, g->lane_count);
        if (broken == g->window_lane)
            broken = -1;
    }
    for (unsigned tries = 0; s.requests.requests < wanted && tries < 3 * wanted; tries++) {
        int lane = below(g, g->lane_count), end = below(g, 2);

        add_request(g, &s, lane, lane == broken ? breaker : end);
    }
    if (g->windows && broken < 0 && chance(g, 20))
        window_request(g, &s);
    if (broken >= 0) {
        settle(g, &s);
        fault(g, &s, broken, breaker);
        for (unsigned spares = below(g, 3); spares > 0; spares--)
            spare_receive(g, &s, broken, !breaker);
    }
    settle(g, &s);
    for (int lane = 0; lane < g->lane_count; lane++)
        for (int end = 0; end < 2; end++)
            if (g->open[lane][end])
                g->open[lane][end]->flags |= IBV_SEND_SIGNALED;

    append(batch, &s.early);
    add(batch, READY, 0, 0);
    append(batch, &s.requests);
    if (s.late.count) {
        add(batch, PAUSE, 0, 0);
        append(batch, &s.late);
    }
    add(batch, GO, 0, 0)->events = chance(g, 30);
    append_done(g, batch, &s);
    append(batch, &s.after);
    for (int end = 0; end < 2; end++)
        add(batch, SUM, 0, end)->sum = checksum(g->memory[end], MEMORY);
    if (broken >= 0)
        renew(g, batch, broken);
    batch->requests = s.requests.requests;
}

uint64_t checksum(const unsigned char *bytes, size_t length)
{
    uint64_t sum = 0xcbf29ce484222325;

    for (size_t at = 0; at < length; at++)
        sum = (sum ^ bytes[at]) * 0x100000001b3;
    return sum;
}
