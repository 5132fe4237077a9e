/* Faults of more than one request: late and missing receives, queues moved to ERR, senders without an answer. */
#include "faults.h"

#include <string.h>

/* RDMA of zero bytes needs no key. */
void check_empty(struct device *device, struct shadow *shadow)
{
    const enum ibv_wr_opcode opcodes[] = {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ};
    struct lane lane = {0};

    open_lane(&lane, device, RC, false);
    for (size_t at = 0; at < COUNT(opcodes); at++) {
        struct ibv_send_wr wr = request(&lane, 0, opcodes[at], 5, NULL, 0);

        begin("rc: a %s of no bytes with no key", at ? "read" : "write");
        wr.wr.rdma.remote_addr = 0;
        wr.wr.rdma.rkey = 0;
        if (post(&lane, 0, &wr))
            await(&lane, 0, (struct want){.id = 5, .opcode = at ? IBV_WC_RDMA_READ : IBV_WC_RDMA_WRITE});
        works(&lane, shadow);
        finish();
    }
    close_lane(&lane);
}

void check_late(struct device *device, struct shadow *shadow, enum kind kind, bool srq)
{
    struct lane lane = {0};

    open_lane(&lane, device, kind, srq);
    struct ibv_sge local = sge(&lane.end[0], SOURCE, SIZE);
    struct ibv_send_wr wr = request(&lane, 0, IBV_WR_SEND, 1, &local, 1);

    begin("%s: a receive posted after its message was sent", lane_name(&lane));
    refresh(&lane, shadow);
    if (post(&lane, 0, &wr) && nothing(&lane.end[0]) && receive(&lane, 1, 2, TARGET, SIZE) &&
        await(&lane, 0, (struct want){.id = 1, .opcode = IBV_WC_SEND}) &&
        await(&lane, 1, (struct want){.id = 2, .opcode = IBV_WC_RECV, .length = SIZE})) {
        memcpy(shadow->memory[1] + TARGET, shadow->memory[0] + SOURCE, SIZE);
        as_expected(&lane, shadow);
        works(&lane, shadow);
    }
    finish();

    begin("%s: no receive, and one retry for that", lane_name(&lane));
    lane.rnr_retry = 1;
    connect_lane(&lane);
    refresh(&lane, shadow);
    if (post(&lane, 0, &wr) && await(&lane, 0, (struct want){.id = 1, .status = IBV_WC_RNR_RETRY_EXC_ERR}))
        as_expected(&lane, shadow);
    lane.rnr_retry = 7;
    renew_queues(&lane, 0, 0);
    works(&lane, shadow);
    finish();

    begin("%s: a peer that does not answer", lane_name(&lane));
    /* 4.096 µs * 2^10: four milliseconds. */
    lane.timeout = 10;
    lane.retry_cnt = 1;
    connect_lane(&lane);
    if (to_state(lane.end[1].receiver, IBV_QPS_RESET))
        die("modify_qp to RESET: %s", strerror(errno));
    if (post(&lane, 0, &wr))
        await(&lane, 0, (struct want){.id = 1, .status = IBV_WC_RETRY_EXC_ERR});
    lane.timeout = 18;
    lane.retry_cnt = 7;
    connect_lane(&lane);
    works(&lane, shadow);
    finish();
    close_lane(&lane);
}

/* Moving a queue pair to ERR flushes everything in order, also what is posted afterwards. */
void check_flush(struct device *device, struct shadow *shadow, enum kind kind, bool srq)
{
    struct lane lane = {0};
    bool good = true;

    open_lane(&lane, device, kind, srq);
    begin("%s: flush in order, also of what is posted in ERR", lane_name(&lane));
    drain_events(device, IBV_EVENT_DEVICE_FATAL);
    for (int at = 0; at < 5; at++)
        good = good && receive(&lane, 1, 20 + at, TARGET, 100);
    fail_lane(&lane);
    if (!srq) {
        for (int at = 0; at < 5; at++)
            good = good && await(&lane, 1,
                                 (struct want){.id = 20 + at, .status = IBV_WC_WR_FLUSH_ERR, .opcode = IBV_WC_RECV});
        /* rxe loses those. */
        /* rxe loses one that is posted in ERR. */
        if (!options.rxe)
            good = good && receive(&lane, 1, 30, TARGET, 100) &&
                   await(&lane, 1, (struct want){.id = 30, .status = IBV_WC_WR_FLUSH_ERR, .opcode = IBV_WC_RECV});
    } else if (kind != XRC && good && !options.rxe) {
        good = await_event(device, IBV_EVENT_QP_LAST_WQE_REACHED);
    }
    struct ibv_sge local = sge(&lane.end[0], SOURCE, 10);

    for (int at = 0; at < 3 && good; at++) {
        struct ibv_send_wr wr = request(&lane, 0, IBV_WR_SEND, 40 + at, &local, 1);

        wr.send_flags = at == 1 ? 0 : IBV_SEND_SIGNALED;
        good = post(&lane, 0, &wr) && await(&lane, 0, (struct want){.id = 40 + at, .status = IBV_WC_WR_FLUSH_ERR});
    }
    good = good && nothing(&lane.end[0]) && nothing(&lane.end[1]);
    if (!srq) {
        connect_lane(&lane);
        works(&lane, shadow);
    }
    finish();
    close_lane(&lane);
}

/* An unreliable sender learns of its own faults only; the receiver drops what it cannot accept. */
void check_unreliable(struct device *device, struct shadow *shadow)
{
    for (enum kind kind = UC; kind <= UD; kind++) {
        struct lane lane = {0};

        open_lane(&lane, device, kind, false);
        struct ibv_sge local = sge(&lane.end[0], SOURCE, 200);
        struct ibv_send_wr wr = request(&lane, 0, IBV_WR_SEND, 1, &local, 1);

        begin("%s: a send of an unknown local key", lane_name(&lane));
        refresh(&lane, shadow);
        local.lkey ^= 0x00ff00ff;
        if (receive(&lane, 1, 2, TARGET, 300) && post(&lane, 0, &wr) &&
            await(&lane, 0, (struct want){.id = 1, .status = IBV_WC_LOC_PROT_ERR, .rxe = PUSH}) && nothing(&lane.end[1]))
            as_expected(&lane, shadow);
        renew_queues(&lane, 2, 1);
        works(&lane, shadow);
        finish();

        begin("%s: a message without a receive is lost without a word", lane_name(&lane));
        local = sge(&lane.end[0], SOURCE, 200);
        refresh(&lane, shadow);
        if (post(&lane, 0, &wr) && await(&lane, 0, (struct want){.id = 1, .opcode = IBV_WC_SEND}) &&
            nothing(&lane.end[1]))
            as_expected(&lane, shadow);
        works(&lane, shadow);
        finish();
        if (kind == UC) {
            begin("uc: a write with an unknown remote key is dropped");
            wr = request(&lane, 0, IBV_WR_RDMA_WRITE, 3, &local, 1);
            aim(&wr, &lane, 0, TARGET);
            wr.wr.rdma.rkey ^= 0x00ff00ff;
            refresh(&lane, shadow);
            if (post(&lane, 0, &wr) && await(&lane, 0, (struct want){.id = 3, .opcode = IBV_WC_RDMA_WRITE}) &&
                nothing(&lane.end[1]))
                as_expected(&lane, shadow);
            renew_queues(&lane, 0, 0);
            works(&lane, shadow);
            finish();
        }
        close_lane(&lane);
    }
}
