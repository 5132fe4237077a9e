/*
 * What posting and polling cost a program of libibverbs: `posting MODE COUNT`, for a counter of instructions.
 *
 * Two queue pairs of this process are connected to each other. What does not depend on COUNT (the receiver's requests among
 * it) is done once; the slope between two runs is that of the mode alone. examples/posting.rs is the same on bareverbs.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RECEIVES = 2048, BATCH = 16, MEMORY = 8192, SMALL = 64, LARGE = 4096 };

static void die(const char *what)
{
    fprintf(stderr, "posting: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct ibv_context *open_first(void)
{
    struct ibv_device **list = ibv_get_device_list(NULL);
    struct ibv_context *context = list && list[0] ? ibv_open_device(list[0]) : NULL;

    if (!context)
        die("open_device");
    return context;
}

static struct ibv_qp *make_qp(struct ibv_pd *pd, struct ibv_cq *cq)
{
    struct ibv_qp_init_attr init = {
        .send_cq = cq,
        .recv_cq = cq,
        .cap = {.max_send_wr = 64, .max_recv_wr = RECEIVES, .max_send_sge = 1, .max_recv_sge = 1, .max_inline_data = SMALL},
        .qp_type = IBV_QPT_RC,
    };
    struct ibv_qp *qp = ibv_create_qp(pd, &init);

    if (!qp)
        die("create_qp");
    return qp;
}

static void connect_to(struct ibv_qp *qp, const struct ibv_qp *peer, uint16_t lid)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1};

    if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
        die("modify_qp to INIT");
    attr = (struct ibv_qp_attr){
        .qp_state = IBV_QPS_RTR,
        .path_mtu = IBV_MTU_4096,
        .dest_qp_num = peer->qp_num,
        .max_dest_rd_atomic = 1,
        .min_rnr_timer = 12,
        .ah_attr = {.dlid = lid, .port_num = 1},
    };
    if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                     IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
        die("modify_qp to RTR");
    attr = (struct ibv_qp_attr){
        .qp_state = IBV_QPS_RTS, .timeout = 18, .retry_cnt = 7, .rnr_retry = 7, .max_rd_atomic = 1};
    if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                                     IBV_QP_MAX_QP_RD_ATOMIC))
        die("modify_qp to RTS");
}

/* Long enough for what was posted to complete, so that one look finds it. The same instructions wherever it is. */
__attribute__((noinline)) static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

static inline void collect(struct ibv_cq *cq, int count)
{
    struct ibv_wc wcs[BATCH];

    while (count > 0) {
        int got = ibv_poll_cq(cq, BATCH, wcs);

        if (got < 0)
            die("poll_cq");
        for (int at = 0; at < got; at++)
            if (wcs[at].status != IBV_WC_SUCCESS)
                die(ibv_wc_status_str(wcs[at].status));
        count -= got;
        if (count > 0)
            nap();
    }
}

static void receive(struct ibv_qp *qp, struct ibv_sge *room, uint64_t id)
{
    struct ibv_recv_wr wr = {.wr_id = id, .sg_list = room, .num_sge = 1}, *bad;

    if (ibv_post_recv(qp, &wr, &bad))
        die("post_recv");
}

static void send_one(struct ibv_qp *qp, struct ibv_sge *data, int flags, uint64_t id)
{
    struct ibv_send_wr wr = {
        .wr_id = id, .sg_list = data, .num_sge = 1, .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED | flags};
    struct ibv_send_wr *bad;

    if (ibv_post_send(qp, &wr, &bad))
        die("post_send");
}

static void send_batch(struct ibv_qp *qp, struct ibv_sge *data, uint64_t id)
{
    struct ibv_send_wr wrs[BATCH], *bad;

    for (int at = 0; at < BATCH; at++)
        wrs[at] = (struct ibv_send_wr){
            .wr_id = id + at,
            .next = at + 1 < BATCH ? &wrs[at + 1] : NULL,
            .sg_list = data,
            .num_sge = 1,
            .opcode = IBV_WR_SEND,
            .send_flags = IBV_SEND_SIGNALED,
        };
    if (ibv_post_send(qp, wrs, &bad))
        die("post_send");
}

int main(int words, char **word)
{
    const char *mode = words == 3 ? word[1] : "";
    unsigned count = words == 3 ? strtoul(word[2], NULL, 10) : 0;
    struct ibv_context *context = open_first();
    struct ibv_pd *pd = ibv_alloc_pd(context);
    struct ibv_cq *cq = ibv_create_cq(context, 64, NULL, NULL, 0);
    struct ibv_cq *far_cq = ibv_create_cq(context, 2 * RECEIVES, NULL, NULL, 0);
    char *memory = aligned_alloc(4096, MEMORY);
    struct ibv_mr *mr = pd && memory ? ibv_reg_mr(pd, memory, MEMORY, IBV_ACCESS_LOCAL_WRITE) : NULL;
    struct ibv_port_attr port;

    if (!cq || !far_cq || !mr || ibv_query_port(context, 1, &port))
        die("making the queues");
    memset(memory, 7, MEMORY);

    struct ibv_qp *near = make_qp(pd, cq), *far = make_qp(pd, far_cq);
    struct ibv_sge small = {.addr = (uintptr_t)memory, .length = SMALL, .lkey = mr->lkey};
    struct ibv_sge large = {.addr = (uintptr_t)memory, .length = LARGE, .lkey = mr->lkey};
    struct ibv_sge room = {.addr = (uintptr_t)memory + LARGE, .length = LARGE, .lkey = mr->lkey};

    connect_to(near, far, port.lid);
    connect_to(far, near, port.lid);
    for (unsigned at = 0; at < RECEIVES; at++)
        receive(far, &room, at);

    if (!strcmp(mode, "recv"))
        for (unsigned at = 0; at < count; at++)
            receive(near, &room, at);
    else if (!strcmp(mode, "inline"))
        for (unsigned at = 0; at < count; at++) {
            send_one(near, &small, IBV_SEND_INLINE, at);
            nap();
            collect(cq, 1);
        }
    else if (!strcmp(mode, "send"))
        for (unsigned at = 0; at < count; at++) {
            send_one(near, &large, 0, at);
            nap();
            collect(cq, 1);
        }
    else if (!strcmp(mode, "batch"))
        for (unsigned at = 0; at < count; at++) {
            send_batch(near, &large, at);
            nap();
            collect(cq, BATCH);
        }
    else if (!strcmp(mode, "idle"))
        for (unsigned at = 0; at < count; at++)
            nap();
    else
        die("usage: posting inline|send|batch|recv|idle COUNT");
    return 0;
}
