/* Lanes: two ends, each with its queues, connected to each other. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { REMOTE = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC };

void plan_lane(struct lane *lane, struct device *device, enum kind kind, bool srq)
{
    *lane = (struct lane){
        .device = device,
        .kind = kind,
        .srq = srq || kind == XRC,
        .mine = {true, true},
        .access = REMOTE,
        .mtu = device->port.active_mtu < IBV_MTU_1024 ? device->port.active_mtu : IBV_MTU_1024,
        /* Without limit: a test of late receives must not become one of exhausted retries. */
        .rnr_retry = 7,
        .retry_cnt = 7,
        /* 4.096 µs * 2^18, about a second: an emulated device may be slow. */
        .timeout = 18,
        /* 0.01 ms */
        .min_rnr_timer = 1,
        .depth = 64,
        .sges = 4,
        .max_inline = device->max_inline,
    };
}

static void make_end(struct lane *lane, int number, unsigned char *memory)
{
    struct device *device = lane->device;
    struct end *end = &lane->end[number];

    end->memory = memory;
    /* A UC or UD queue pair has no atomics, but its memory may permit them. */
    end->mr = ibv_reg_mr(device->pd, memory, MEMORY, IBV_ACCESS_LOCAL_WRITE | REMOTE |
                         (device->windows1 || device->windows2 ? IBV_ACCESS_MW_BIND : 0));
    if (!end->mr)
        die("reg_mr: %s", strerror(errno));
    end->channel = ibv_create_comp_channel(device->context);
    if (!end->channel)
        die("create_comp_channel: %s", strerror(errno));
    int flags = fcntl(end->channel->fd, F_GETFL);

    if (fcntl(end->channel->fd, F_SETFL, flags | O_NONBLOCK))
        die("the completion channel's file: %s", strerror(errno));
    end->cq = ibv_create_cq(device->context, 2 * lane->depth, end, end->channel, 0);
    if (!end->cq)
        die("create_cq: %s", strerror(errno));

    struct ibv_qp_init_attr_ex attr = {
        .send_cq = end->cq,
        .recv_cq = end->cq,
        .cap = {.max_send_wr = lane->depth, .max_send_sge = lane->sges, .max_inline_data = lane->max_inline},
        .comp_mask = IBV_QP_INIT_ATTR_PD,
        .pd = device->pd,
    };
    if (lane->kind == XRC) {
        struct ibv_srq_init_attr_ex srq = {
            .attr = {.max_wr = lane->depth, .max_sge = lane->sges},
            .comp_mask = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ | IBV_SRQ_INIT_ATTR_PD,
            .srq_type = IBV_SRQT_XRC,
            .xrcd = device->xrcd,
            .cq = end->cq,
            .pd = device->pd,
        };
        struct ibv_qp_init_attr_ex target = {
            .qp_type = IBV_QPT_XRC_RECV, .comp_mask = IBV_QP_INIT_ATTR_XRCD, .xrcd = device->xrcd};

        end->srq = ibv_create_srq_ex(device->context, &srq);
        if (!end->srq)
            die("create_srq_ex for XRC: %s", strerror(errno));
        if (ibv_get_srq_num(end->srq, &end->address.srqn))
            die("get_srq_num: %s", strerror(errno));
        end->receiver = ibv_create_qp_ex(device->context, &target);
        if (!end->receiver)
            die("create_qp_ex of an XRC target: %s", strerror(errno));
        attr.qp_type = IBV_QPT_XRC_SEND;
        attr.recv_cq = NULL;
    } else {
        if (lane->srq) {
            struct ibv_srq_init_attr srq = {.attr = {.max_wr = lane->depth, .max_sge = lane->sges}};

            end->srq = ibv_create_srq(device->pd, &srq);
            if (!end->srq)
                die("create_srq: %s", strerror(errno));
            attr.srq = end->srq;
        } else {
            attr.cap.max_recv_wr = lane->depth;
            attr.cap.max_recv_sge = lane->sges;
        }
        attr.qp_type = lane->kind == RC ? IBV_QPT_RC : lane->kind == UC ? IBV_QPT_UC : IBV_QPT_UD;
    }
    end->qp = ibv_create_qp_ex(device->context, &attr);
    if (!end->qp)
        die("create_qp (%s): %s", lane_name(lane), strerror(errno));
    if (lane->kind != XRC)
        end->receiver = end->qp;
    end->address.sender = end->qp->qp_num;
    end->address.receiver = end->receiver->qp_num;
    /* Close to the end of 24 bits, so that PSNs wrap in every run. */
    end->address.psn = 0xffffe0 + number;
    end->address.rkey = end->mr->rkey;
    end->address.base = (uintptr_t)memory;
    end->address.lid = device->port.lid;
    end->address.gid = device->gid;
}

void make_lane(struct lane *lane, unsigned char *memory[2])
{
    for (int end = 0; end < 2; end++)
        if (lane->mine[end])
            make_end(lane, end, memory[end]);
}

static struct ibv_ah_attr route(const struct lane *lane, int end)
{
    const struct address *peer = &lane->end[!end].address;
    struct ibv_ah_attr ah = {.dlid = peer->lid, .port_num = options.port};

    if (options.gid_index >= 0) {
        ah.is_global = 1;
        ah.grh.dgid = peer->gid;
        ah.grh.sgid_index = options.gid_index;
        ah.grh.hop_limit = 64;
    }
    return ah;
}

/* Moves one queue pair to RTS. `sends` and `receives` differ only for XRC. */
static void connect_qp(struct lane *lane, int number, struct ibv_qp *qp, uint32_t peer, bool sends, bool receives)
{
    const struct address *there = &lane->end[!number].address;
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
    int mask = IBV_QP_STATE;
    bool reliable = lane->kind == RC || lane->kind == XRC;

    if (ibv_modify_qp(qp, &attr, mask))
        die("modify_qp to RESET: %s", strerror(errno));
    attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_INIT, .port_num = options.port, .qkey = QKEY};
    mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
    if (lane->kind == UD)
        mask |= IBV_QP_QKEY;
    else
        mask |= IBV_QP_ACCESS_FLAGS;
    attr.qp_access_flags = lane->kind == UC ? lane->access & IBV_ACCESS_REMOTE_WRITE : lane->access;
    if (ibv_modify_qp(qp, &attr, mask))
        die("modify_qp to INIT (%s): %s", lane_name(lane), strerror(errno));

    attr = (struct ibv_qp_attr){
        .qp_state = IBV_QPS_RTR,
        .path_mtu = lane->mtu,
        .dest_qp_num = peer,
        .rq_psn = there->psn,
        .max_dest_rd_atomic = 4,
        .min_rnr_timer = lane->min_rnr_timer,
        .ah_attr = route(lane, number),
    };
    mask = IBV_QP_STATE;
    if (lane->kind != UD)
        mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
    if (reliable && receives)
        mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
    if (ibv_modify_qp(qp, &attr, mask))
        die("modify_qp to RTR (%s): %s", lane_name(lane), strerror(errno));

    attr = (struct ibv_qp_attr){
        .qp_state = IBV_QPS_RTS,
        .sq_psn = lane->end[number].address.psn,
        .timeout = lane->timeout,
        .retry_cnt = lane->retry_cnt,
        .rnr_retry = lane->rnr_retry,
        .max_rd_atomic = 4,
    };
    mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
    if (reliable)
        mask |= IBV_QP_TIMEOUT;
    if (reliable && sends)
        mask |= IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
    if (ibv_modify_qp(qp, &attr, mask))
        die("modify_qp to RTS (%s): %s", lane_name(lane), strerror(errno));
}

void connect_end(struct lane *lane, int number)
{
    struct end *end = &lane->end[number];
    const struct address *peer = &lane->end[!number].address;

    if (lane->kind == XRC) {
        /* An initiator sends to the peer's target, a target receives from the peer's initiator. */
        connect_qp(lane, number, end->receiver, peer->sender, false, true);
        connect_qp(lane, number, end->qp, peer->receiver, true, false);
    } else {
        connect_qp(lane, number, end->qp, peer->receiver, true, true);
    }
    if (lane->kind == UD && !end->ah) {
        struct ibv_ah_attr ah = route(lane, number);

        end->ah = ibv_create_ah(lane->device->pd, &ah);
        if (!end->ah)
            die("create_ah: %s", strerror(errno));
    }
}

void connect_lane(struct lane *lane)
{
    for (int end = 0; end < 2; end++)
        if (lane->mine[end])
            connect_end(lane, end);
}

int to_state(struct ibv_qp *qp, enum ibv_qp_state state)
{
    struct ibv_qp_attr attr = {.qp_state = state};

    return ibv_modify_qp(qp, &attr, IBV_QP_STATE);
}

enum ibv_qp_state state_of(struct ibv_qp *qp)
{
    struct ibv_qp_attr attr;
    struct ibv_qp_init_attr init;

    if (ibv_query_qp(qp, &attr, IBV_QP_STATE, &init))
        die("query_qp: %s", strerror(errno));
    return attr.qp_state;
}

void fail_lane(struct lane *lane)
{
    for (int number = 0; number < 2; number++) {
        struct end *end = &lane->end[number];

        if (!lane->mine[number])
            continue;
        if (to_state(end->qp, IBV_QPS_ERR) || (end->receiver != end->qp && to_state(end->receiver, IBV_QPS_ERR)))
            die("modify_qp to ERR (%s): %s", lane_name(lane), strerror(errno));
    }
}

static void gone(int result, const char *what)
{
    if (result)
        die("%s: %s", what, strerror(result < 0 ? errno : result));
}

void free_lane(struct lane *lane)
{
    /* A queue pair cannot be destroyed before its events are acknowledged. */
    drain_events(lane->device, IBV_EVENT_DEVICE_FATAL);
    for (int number = 0; number < 2; number++) {
        struct end *end = &lane->end[number];

        if (!lane->mine[number])
            continue;
        if (end->ah)
            gone(ibv_destroy_ah(end->ah), "destroy_ah");
        if (end->receiver != end->qp)
            gone(ibv_destroy_qp(end->receiver), "destroy_qp of an XRC target");
        gone(ibv_destroy_qp(end->qp), "destroy_qp");
        if (end->srq)
            gone(ibv_destroy_srq(end->srq), "destroy_srq");
        gone(ibv_destroy_cq(end->cq), "destroy_cq");
        gone(ibv_destroy_comp_channel(end->channel), "destroy_comp_channel");
        gone(ibv_dereg_mr(end->mr), "dereg_mr");
    }
}

void open_lane(struct lane *lane, struct device *device, enum kind kind, bool srq)
{
    unsigned char *memory[2];

    if (!lane->device)
        plan_lane(lane, device, kind, srq);
    for (int end = 0; end < 2; end++) {
        memory[end] = aligned_alloc(4096, MEMORY);
        if (!memory[end])
            die("no memory");
        fill(memory[end], MEMORY, 1000 + end);
    }
    make_lane(lane, memory);
    connect_lane(lane);
}

void close_lane(struct lane *lane)
{
    free_lane(lane);
    free(lane->end[0].memory);
    free(lane->end[1].memory);
}

const char *lane_name(const struct lane *lane)
{
    static const char *const names[][2] = {
        [RC] = {"rc", "rc+srq"}, [UC] = {"uc", "uc+srq"}, [UD] = {"ud", "ud+srq"}, [XRC] = {"xrc", "xrc"}};

    return names[lane->kind][lane->srq];
}

unsigned mtu_bytes(const struct lane *lane)
{
    return 128u << lane->mtu;
}
