/* Completion queues and shared receive queues: events, resizing, limits, order, capacity. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCE = 2048, TARGET = 65536, SIZE = 200 };

static bool send_one(struct lane *lane, uint64_t id, int flags)
{
    struct ibv_sge local = sge(&lane->end[0], SOURCE, SIZE);
    struct ibv_send_wr wr = request(lane, 0, IBV_WR_SEND, id, &local, 1);

    wr.send_flags = flags;
    return post(lane, 0, &wr);
}

static bool received(struct lane *lane, uint64_t id)
{
    return await(lane, 1, (struct want){.id = id, .opcode = IBV_WC_RECV, .length = SIZE});
}

static bool arm(struct end *end, int solicited)
{
    int result = ibv_req_notify_cq(end->cq, solicited);

    return EXPECT(!result, "req_notify_cq: %s", strerror(result));
}

static void check_events(struct lane *lane)
{
    struct end *there = &lane->end[1];

    begin("%s: an armed queue tells of the next completion, once", lane_name(lane));
    for (int round = 0; round < 3; round++) {
        if (!(receive(lane, 1, 1, TARGET, SIZE) && receive(lane, 1, 2, TARGET, SIZE) && arm(there, 0) &&
              no_notice(there) && send_one(lane, 3, 0) && await_notice(there) && received(lane, 1) &&
              send_one(lane, 4, IBV_SEND_SIGNALED) && received(lane, 2) && no_notice(there) &&
              await(lane, 0, (struct want){.id = 4, .opcode = IBV_WC_SEND})))
            break;
    }
    finish();

    begin("%s: a queue armed for solicited ones tells of no other", lane_name(lane));
    if (receive(lane, 1, 1, TARGET, SIZE) && receive(lane, 1, 2, TARGET, SIZE) && arm(there, 1) &&
        send_one(lane, 3, 0) && received(lane, 1) && no_notice(there) &&
        send_one(lane, 4, IBV_SEND_SIGNALED | IBV_SEND_SOLICITED) && await_notice(there) && received(lane, 2))
        await(lane, 0, (struct want){.id = 4, .opcode = IBV_WC_SEND});
    finish();

    begin("%s: an error is told to a queue armed for solicited ones", lane_name(lane));
    if (receive(lane, 1, 1, TARGET, SIZE) && arm(there, 1)) {
        fail_lane(lane);
        if (await_notice(there))
            await(lane, 1, (struct want){.id = 1, .status = IBV_WC_WR_FLUSH_ERR, .opcode = IBV_WC_RECV});
    }
    connect_lane(lane);
    finish();
}

static void check_resize(struct lane *lane)
{
    const int sizes[] = {300, 40, 1000};
    struct end *there = &lane->end[1];

    begin("%s: a completion queue resized with completions in it", lane_name(lane));
    for (size_t at = 0; at < COUNT(sizes); at++) {
        /* Four completions wait in the queue while it is resized, and it takes more after that. */
        for (int number = 0; number < 8; number++)
            if (!receive(lane, 1, 10 * at + number, TARGET, SIZE))
                goto out;
        for (int number = 0; number < 4; number++)
            if (!send_one(lane, 100 + number, IBV_SEND_SIGNALED) ||
                !await(lane, 0, (struct want){.id = 100 + number, .opcode = IBV_WC_SEND}))
                goto out;
        int result = ibv_resize_cq(there->cq, sizes[at]);

        if (result == ENOSYS || result == EOPNOTSUPP) {
            finish();
            absent("resize", "the device resizes no completion queue");
            return;
        }
        if (result) {
            fail("resize_cq to %d: %s", sizes[at], strerror(result));
            goto out;
        }
        EXPECT(there->cq->cqe >= sizes[at], "resize_cq to %d: the queue says it holds %d", sizes[at], there->cq->cqe);
        for (int number = 4; number < 8; number++)
            if (!send_one(lane, 100 + number, IBV_SEND_SIGNALED) ||
                !await(lane, 0, (struct want){.id = 100 + number, .opcode = IBV_WC_SEND}))
                goto out;
        for (int number = 0; number < 8; number++)
            if (!received(lane, 10 * at + number))
                goto out;
    }
    if (arm(there, 0) && receive(lane, 1, 1, TARGET, SIZE) && send_one(lane, 2, IBV_SEND_SIGNALED) &&
        await_notice(there) && received(lane, 1))
        await(lane, 0, (struct want){.id = 2, .opcode = IBV_WC_SEND});
out:
    finish();
}

/* The queues wrap many times, in uneven steps, with few signaled sends. */
static void check_rounds(struct lane *lane)
{
    uint64_t sent = 0, posted = 0, got = 0, acknowledged = 0;
    const uint64_t total = 700;

    begin("%s: order, over many rounds of the queues", lane_name(lane));
    while (got < total) {
        unsigned step = 1 + sent % 11;

        for (unsigned at = 0; at < step && posted < total; at++, posted++)
            if (!receive(lane, 1, posted, TARGET, SIZE))
                goto out;
        struct ibv_sge local = sge(&lane->end[0], SOURCE, SIZE);
        struct ibv_send_wr chain[11];
        unsigned count = 0;

        for (; count < step && sent < posted; count++, sent++) {
            chain[count] = request(lane, 0, IBV_WR_SEND, sent, &local, 1);
            chain[count].send_flags = sent % 5 == 4 || sent + 1 == posted ? IBV_SEND_SIGNALED : 0;
            if (count)
                chain[count - 1].next = &chain[count];
        }
        if (count && !post(lane, 0, chain))
            goto out;
        for (; acknowledged < sent; acknowledged++)
            if ((acknowledged % 5 == 4 || acknowledged + 1 == posted) &&
                !await(lane, 0, (struct want){.id = acknowledged, .opcode = IBV_WC_SEND}))
                goto out;
        for (; got < sent; got++)
            if (!received(lane, got))
                goto out;
    }
    if (nothing(&lane->end[0]))
        nothing(&lane->end[1]);
out:
    finish();
}

static void check_full(struct lane *lane)
{
    struct ibv_recv_wr wr = {.wr_id = 1}, *bad;
    unsigned posted = 0;
    int result = 0;
    struct ibv_qp_attr attr;
    struct ibv_qp_init_attr init;

    begin("%s: a receive queue takes as many as it says, then ENOMEM", lane_name(lane));
    if (ibv_query_qp(lane->end[1].qp, &attr, IBV_QP_CAP, &init))
        die("query_qp: %s", strerror(errno));
    while (posted <= 100000 && !(result = ibv_post_recv(lane->end[1].qp, &wr, &bad)))
        posted++;
    EXPECT(result == ENOMEM, "expected ENOMEM, seen %d (%s)", result, strerror(result));
    EXPECT(posted >= lane->depth && posted <= 4 * lane->depth, "a queue for %u took %u", lane->depth, posted);
    EXPECT(bad == &wr, "the request that did not fit was not named");
    fail_lane(lane);
    for (unsigned at = 0; at < posted; at++)
        if (!await(lane, 1, (struct want){.id = 1, .status = IBV_WC_WR_FLUSH_ERR, .opcode = IBV_WC_RECV}))
            break;
    connect_lane(lane);
    finish();
}

static void check_limit(struct lane *lane)
{
    struct device *device = lane->device;
    struct end *there = &lane->end[1];
    struct ibv_srq_attr attr = {.srq_limit = 3};

    begin("%s: the limit event, once, when fewer are left", lane_name(lane));
    drain_events(device, IBV_EVENT_SRQ_LIMIT_REACHED);
    for (int at = 0; at < 6; at++)
        if (!receive(lane, 1, at, TARGET, SIZE))
            goto out;
    int result = ibv_modify_srq(there->srq, &attr, IBV_SRQ_LIMIT);

    if (result) {
        fail("modify_srq: %s", strerror(result));
        goto out;
    }
    memset(&attr, 0, sizeof attr);
    if (ibv_query_srq(there->srq, &attr))
        die("query_srq: %s", strerror(errno));
    EXPECT(attr.srq_limit == 3, "query_srq: expected the limit 3, seen %u", attr.srq_limit);
    for (int at = 0; at < 6; at++) {
        if (!send_one(lane, 10 + at, IBV_SEND_SIGNALED) || !received(lane, at) ||
            !await(lane, 0, (struct want){.id = 10 + at, .opcode = IBV_WC_SEND}))
            goto out;
        /* Three are left after the third message: not below the limit. */
        if (at == 2) {
            pause_ms(QUIET);
            EXPECT(!drain_events(device, IBV_EVENT_SRQ_LIMIT_REACHED), "the event came with 3 left of a limit of 3");
        }
        if (at == 3 && !await_event(device, IBV_EVENT_SRQ_LIMIT_REACHED))
            goto out;
    }
    pause_ms(QUIET);
    EXPECT(!drain_events(device, IBV_EVENT_SRQ_LIMIT_REACHED), "the event came a second time");
    if (ibv_query_srq(there->srq, &attr))
        die("query_srq: %s", strerror(errno));
    EXPECT(attr.srq_limit == 0, "query_srq after the event: expected the limit 0, seen %u", attr.srq_limit);
out:
    finish();
}

/* Several queue pairs use one shared queue, and all completions go to one queue. */
static void check_sharing(struct device *device)
{
    enum { PAIRS = 3, EACH = 8 };
    struct lane lane = {0};
    struct ibv_qp *first[2], *qps[2][PAIRS];
    bool taken[PAIRS * EACH] = {false};
    int next[PAIRS] = {0};

    open_lane(&lane, device, RC, true);
    begin("rc+srq: %d queue pairs on one shared queue", PAIRS);
    for (int end = 0; end < 2; end++) {
        first[end] = qps[end][0] = lane.end[end].qp;
        for (int pair = 1; pair < PAIRS; pair++) {
            struct ibv_qp_init_attr attr = {
                .send_cq = lane.end[end].cq,
                .recv_cq = lane.end[end].cq,
                .srq = lane.end[end].srq,
                .cap = {.max_send_wr = 16, .max_send_sge = 1},
                .qp_type = IBV_QPT_RC,
            };

            qps[end][pair] = ibv_create_qp(device->pd, &attr);
            if (!qps[end][pair])
                die("create_qp: %s", strerror(errno));
        }
    }
    for (int pair = 0; pair < PAIRS; pair++) {
        for (int end = 0; end < 2; end++) {
            lane.end[end].qp = lane.end[end].receiver = qps[end][pair];
            lane.end[end].address.sender = lane.end[end].address.receiver = qps[end][pair]->qp_num;
        }
        connect_lane(&lane);
    }
    for (int at = 0; at < PAIRS * EACH; at++)
        if (!receive(&lane, 1, at, TARGET + at * SIZE, SIZE))
            goto out;
    for (int at = 0; at < PAIRS * EACH; at++) {
        /* Each message contains its number. */
        lane.end[0].memory[SOURCE + at * SIZE] = at;
        struct ibv_sge local = sge(&lane.end[0], SOURCE + at * SIZE, SIZE);

        lane.end[0].qp = qps[0][at % PAIRS];
        struct ibv_send_wr wr = request(&lane, 0, IBV_WR_SEND, at, &local, 1);

        if (!post(&lane, 0, &wr))
            goto out;
    }
    struct ibv_wc wcs[PAIRS * EACH];

    if (!collect(&lane.end[1], wcs, PAIRS * EACH))
        goto out;
    for (int at = 0; at < PAIRS * EACH; at++) {
        const struct ibv_wc *wc = &wcs[at];
        int pair = 0;

        while (pair < PAIRS && qps[1][pair]->qp_num != wc->qp_num)
            pair++;
        if (pair == PAIRS || wc->wr_id >= PAIRS * EACH || taken[wc->wr_id] || wc->status || wc->byte_len != SIZE) {
            fail("completion %d: request %lu, %s, qp_num 0x%x, byte_len %u", at, (unsigned long)wc->wr_id,
                 status_name(wc->status), wc->qp_num, wc->byte_len);
            goto out;
        }
        taken[wc->wr_id] = true;
        /* The messages of one queue pair arrive in order. */
        int message = pair + PAIRS * next[pair]++;

        if (!same("a message", lane.end[1].memory + TARGET + wc->wr_id * SIZE,
                  lane.end[0].memory + SOURCE + message * SIZE, SIZE))
            goto out;
    }
    collect(&lane.end[0], wcs, PAIRS * EACH);
out:
    for (int end = 0; end < 2; end++) {
        for (int pair = 1; pair < PAIRS; pair++)
            ibv_destroy_qp(qps[end][pair]);
        lane.end[end].qp = lane.end[end].receiver = first[end];
    }
    finish();
    close_lane(&lane);
}

void check_queues(struct device *device)
{
    static const struct {
        enum kind kind;
        bool srq;
    } lanes[] = {{RC, false}, {RC, true}, {UC, false}, {XRC, true}};

    for (size_t at = 0; at < COUNT(lanes); at++) {
        struct lane lane = {0};

        if (lanes[at].kind == XRC && !device->xrcd) {
            absent("xrc", "the device has no XRC");
            continue;
        }
        open_lane(&lane, device, lanes[at].kind, lanes[at].srq);
        if (lanes[at].srq) {
            check_limit(&lane);
        } else {
            check_events(&lane);
            check_full(&lane);
        }
        check_resize(&lane);
        check_rounds(&lane);
        close_lane(&lane);
    }
    check_sharing(device);
}
