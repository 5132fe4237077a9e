/* Random scripts: requests that fail, what is flushed behind them, and setting up the lane again. */
#include "model.h"

#include <string.h>

/* A request that fails, what is flushed behind it, and setting up the lane again. */
void fault(struct generator *g, struct sections *s, int lane, int end)
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
    /* rxe refuses to post such a request. */
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
        /* Without a fence it could overtake the data of a read. */
        line->flags |= IBV_SEND_FENCE;
        split(g, line, source, below(g, size), PARTS);
        conclude_request(g, s, line, 0);
        s->done.lines[s->done.count - 1].want = (struct want){.id = line->id, .status = IBV_WC_WR_FLUSH_ERR};
    }
}

/* A receive that no message of this batch takes. */
void spare_receive(struct generator *g, struct sections *s, int lane, int end)
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

/* Moves a lane to ERR and back; its own receives are flushed, a shared queue's stay. */
void renew(struct generator *g, struct batch *batch, int lane)
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
