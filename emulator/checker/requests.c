/* Random scripts: requests that succeed. */
#include "model.h"

#include <string.h>

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
    line->compare_add = draw(g);
    if (opcode == IBV_WR_ATOMIC_CMP_AND_SWP) {
        if (chance(g, 50))
            line->compare_add = old;
        line->swap = draw(g);
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

/* Sends, and writes with or without imm; `source` is -1 for new bytes, else the data of an earlier read. */
void push_request(struct generator *g, struct sections *s, int lane, int end, enum ibv_wr_opcode opcode,
                  uint32_t size, int64_t source)
{
    static unsigned char bytes[MEMORY];
    bool writes = opcode == IBV_WR_RDMA_WRITE || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
    bool reliable = g->lanes[lane].kind == RC || g->lanes[lane].kind == XRC;
    struct queue *queue = queue_of(g, lane, !end);
    bool fenced = source >= 0;
    int64_t remote = 0;
    enum target target = NOTHING;

    /* A receive left over from an earlier batch takes this message, so it must fit. */
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
        /* rxe hangs when a message that arrives too early has others around it. */
        if (chance(g, 15) && reliable && !options.rxe)
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
        line->imm = draw(g);
    }
    split(g, line, source, size, PARTS);
    if (fenced)
        line->flags |= IBV_SEND_FENCE;
    gather_parts(g, line, bytes);
    if (!fenced && size <= g->max_inline && chance(g, 40)) {
        line->flags |= IBV_SEND_INLINE;
        /* The player overwrites the source after posting. */
        for (uint32_t at = 0; at < size; at++)
            g->memory[end][source + at] ^= 0xff;
    }
    conclude_request(g, s, line, size);
    if (writes)
        memcpy(g->memory[!end] + remote, bytes, size);
    if (opcode != IBV_WR_RDMA_WRITE)
        deliver(g, s, line, bytes, size);
}

/* A read, and a fenced send of the data that it fetched. */
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

void add_request(struct generator *g, struct sections *s, int lane, int end)
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

/* Binds a window, or invalidates the bound one. */
void window_request(struct generator *g, struct sections *s)
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
        /* Used from the next batch on, when both ends know its key. */
        g->window_cursor = g->window_length;
        line = add(&s->requests, SEND, lane, g->window_end);
        line->opcode = IBV_WR_BIND_MW;
        line->offset = g->window_offset;
        line->length = g->window_length;
        conclude_request(g, s, line, 0);
        return;
    }
    /* Requests of this batch use it. */
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

/* A message behind an unreliable write shows that it has arrived. */
void settle(struct generator *g, struct sections *s)
{
    for (int lane = 0; lane < g->lane_count; lane++)
        for (int end = 0; end < 2; end++) {
            struct line *last = g->open[lane][end];

            if (g->lanes[lane].kind == UC && last && last->opcode == IBV_WR_RDMA_WRITE)
                push_request(g, s, lane, end, IBV_WR_SEND, 0, -1);
        }
}
