/* Faults: the statuses at both ends, what is flushed, memory that must not change, and using the queues again. */
#include "faults.h"

#include <errno.h>
#include <string.h>

enum { NONE = -1 };

enum wrong {
    LOCAL_KEY,         /* a key that does not exist */
    LOCAL_GONE,        /* a key of deregistered memory */
    LOCAL_DOMAIN,      /* memory of another protection domain */
    LOCAL_BOUNDS,      /* one byte past its end */
    LOCAL_READ_ONLY,   /* data are fetched into read-only memory */
    RECEIVE_KEY,
    RECEIVE_DOMAIN,
    RECEIVE_BOUNDS,
    RECEIVE_READ_ONLY,
    RECEIVE_SHORT,     /* one byte too short */
    RECEIVE_SHORT_FIRST, /* too short for the first packet */
    REMOTE_KEY,
    REMOTE_GONE,
    REMOTE_DOMAIN,
    REMOTE_END,        /* one byte past the end */
    REMOTE_START,      /* one byte before the start */
    REMOTE_WRAP,       /* address and length wrap at the end of the address space */
    REMOTE_RIGHTS,     /* memory without this right */
    REMOTE_QUEUE,      /* a queue pair without this right */
    REMOTE_UNALIGNED,
};

struct fault {
    const char *name;
    enum wrong wrong;
    enum ibv_wr_opcode opcode;
    int sender, receiver;       /* statuses; NONE if the receiver completes nothing */
    int event;                  /* of the responder's queue pair */
    uint32_t rxe_sender, rxe_receiver; /* other statuses that rxe may report, as bits */
};

static const struct fault faults[] = {
    {"a send of an unknown local key", LOCAL_KEY, IBV_WR_SEND, IBV_WC_LOC_PROT_ERR, NONE, NONE, PUSH, 0},
    {"a write of an unknown local key", LOCAL_KEY, IBV_WR_RDMA_WRITE, IBV_WC_LOC_PROT_ERR, NONE, NONE, PUSH, 0},
    {"a read to an unknown local key", LOCAL_KEY, IBV_WR_RDMA_READ, IBV_WC_LOC_PROT_ERR, NONE, NONE, 0, 0},
    {"a send of memory deregistered", LOCAL_GONE, IBV_WR_SEND, IBV_WC_LOC_PROT_ERR, NONE, NONE, PUSH, 0},
    {"a send of another domain's memory", LOCAL_DOMAIN, IBV_WR_SEND, IBV_WC_LOC_PROT_ERR, NONE, NONE, PUSH, 0},
    {"a send past the end of memory", LOCAL_BOUNDS, IBV_WR_SEND, IBV_WC_LOC_PROT_ERR, NONE, NONE, PUSH, 0},
    {"a read past the end of local memory", LOCAL_BOUNDS, IBV_WR_RDMA_READ, IBV_WC_LOC_PROT_ERR, NONE, NONE, 0, 0},
    {"a read into read-only memory", LOCAL_READ_ONLY, IBV_WR_RDMA_READ, IBV_WC_LOC_PROT_ERR, NONE, NONE, 0, 0},
    {"an atomic into read-only memory", LOCAL_READ_ONLY, IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WC_LOC_PROT_ERR, NONE, NONE,
     0, 0},
    {"a receive of an unknown key", RECEIVE_KEY, IBV_WR_SEND, IBV_WC_REM_OP_ERR, IBV_WC_LOC_PROT_ERR, NONE, 0, TAKE},
    {"a receive into another domain's memory", RECEIVE_DOMAIN, IBV_WR_SEND, IBV_WC_REM_OP_ERR, IBV_WC_LOC_PROT_ERR,
     NONE, 0, TAKE},
    {"a receive past the end of memory", RECEIVE_BOUNDS, IBV_WR_SEND, IBV_WC_REM_OP_ERR, IBV_WC_LOC_PROT_ERR, NONE,
     0, TAKE},
    {"a receive into read-only memory", RECEIVE_READ_ONLY, IBV_WR_SEND, IBV_WC_REM_OP_ERR, IBV_WC_LOC_PROT_ERR, NONE,
     0, TAKE},
    {"a receive too short by a byte", RECEIVE_SHORT, IBV_WR_SEND, IBV_WC_REM_INV_REQ_ERR, IBV_WC_LOC_LEN_ERR, NONE,
     SHORT, TOO_SHORT},
    {"a receive too short for the first packet", RECEIVE_SHORT_FIRST, IBV_WR_SEND, IBV_WC_REM_INV_REQ_ERR,
     IBV_WC_LOC_LEN_ERR, NONE, SHORT, TOO_SHORT},
    {"a write with an unknown remote key", REMOTE_KEY, IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a read with an unknown remote key", REMOTE_KEY, IBV_WR_RDMA_READ, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"an atomic with an unknown remote key", REMOTE_KEY, IBV_WR_ATOMIC_CMP_AND_SWP, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a write with imm and an unknown remote key", REMOTE_KEY, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a write to memory deregistered", REMOTE_GONE, IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a write to another domain's memory", REMOTE_DOMAIN, IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a write past the end", REMOTE_END, IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR, NONE, IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a read past the end", REMOTE_END, IBV_WR_RDMA_READ, IBV_WC_REM_ACCESS_ERR, NONE, IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a write before the start", REMOTE_START, IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR, NONE, IBV_EVENT_QP_ACCESS_ERR,
     0, 0},
    {"a write round the end of the address space", REMOTE_WRAP, IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a write to memory without the right", REMOTE_RIGHTS, IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a read of memory without the right", REMOTE_RIGHTS, IBV_WR_RDMA_READ, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"an atomic on memory without the right", REMOTE_RIGHTS, IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WC_REM_ACCESS_ERR, NONE,
     IBV_EVENT_QP_ACCESS_ERR, 0, 0},
    {"a write to a queue pair without the right", REMOTE_QUEUE, IBV_WR_RDMA_WRITE, IBV_WC_REM_INV_REQ_ERR, NONE,
     IBV_EVENT_QP_REQ_ERR, 0, 0},
    {"a read from a queue pair without the right", REMOTE_QUEUE, IBV_WR_RDMA_READ, IBV_WC_REM_INV_REQ_ERR, NONE,
     IBV_EVENT_QP_REQ_ERR, 0, 0},
    {"an atomic on a queue pair without the right", REMOTE_QUEUE, IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WC_REM_INV_REQ_ERR,
     NONE, IBV_EVENT_QP_REQ_ERR, 0, 0},
    {"an atomic on an address that is no multiple of 8", REMOTE_UNALIGNED, IBV_WR_ATOMIC_FETCH_AND_ADD,
     IBV_WC_REM_INV_REQ_ERR, NONE, IBV_EVENT_QP_REQ_ERR, 0, 0},
};

static bool atomic(enum ibv_wr_opcode opcode)
{
    return opcode == IBV_WR_ATOMIC_FETCH_AND_ADD || opcode == IBV_WR_ATOMIC_CMP_AND_SWP;
}

/* Sends a message to show that both ends work again. */
bool works(struct lane *lane, struct shadow *shadow)
{
    for (int from = 0; from < 2; from++) {
        struct ibv_sge local = sge(&lane->end[from], SOURCE, SIZE);
        size_t header = lane->kind == UD ? GRH : 0, size = lane->kind == UD ? 500 : SIZE;
        struct ibv_send_wr wr = request(lane, from, IBV_WR_SEND, 101, &local, 1);

        local.length = size;
        refresh(lane, shadow);
        if (!receive(lane, !from, 102, TARGET, size + header) || !post(lane, from, &wr) ||
            !await(lane, from, (struct want){.id = 101, .opcode = IBV_WC_SEND}) ||
            !await(lane, !from, (struct want){.id = 102, .opcode = IBV_WC_RECV, .length = size + header}))
            return fail("the queues were to work after it");
        memcpy(shadow->memory[!from] + TARGET, lane->end[!from].memory + TARGET, header);
        memcpy(shadow->memory[!from] + TARGET + header, shadow->memory[from] + SOURCE, size);
        if (!as_expected(lane, shadow))
            return false;
    }
    return true;
}

/* Waits until a queue pair changes to a state by itself. */
bool await_state(struct ibv_qp *qp, enum ibv_qp_state state)
{
    uint64_t limit = now_ms() + patience();

    while (state_of(qp) != state)
        if (now_ms() > limit)
            return fail("expected the queue pair in state %d, seen %d", state, state_of(qp));
    return true;
}

/* Flushes both ends, expecting the receives `first`.. at end 1, and connects them again. */
bool renew_queues(struct lane *lane, uint64_t first, int receives)
{
    bool good = true;

    fail_lane(lane);
    /* The receives of a shared queue belong to no queue pair, and stay. */
    for (int at = 0; at < receives && good; at++)
        good = lane->srq ||
               await(lane, 1, (struct want){.id = first + at, .status = IBV_WC_WR_FLUSH_ERR, .opcode = IBV_WC_RECV});
    good = good && nothing(&lane->end[0]) && nothing(&lane->end[1]);
    connect_lane(lane);
    return good;
}

/* A shared queue keeps its unused receives: the next messages take them. */
static bool take_left(struct lane *lane, uint64_t first, int receives)
{
    bool good = true;

    for (int at = 0; at < receives && lane->srq && good; at++) {
        struct ibv_sge local = sge(&lane->end[0], SOURCE, 30);
        struct ibv_send_wr wr = request(lane, 0, IBV_WR_SEND, 103, &local, 1);

        good = post(lane, 0, &wr) && await(lane, 0, (struct want){.id = 103, .opcode = IBV_WC_SEND}) &&
               await(lane, 1, (struct want){.id = first + at, .opcode = IBV_WC_RECV, .length = 30});
    }
    return good;
}

static bool run_fault(struct lane *lane, struct shadow *shadow, const struct fault *fault)
{
    struct device *device = lane->device;
    struct end *here = &lane->end[0], *there = &lane->end[1];
    bool remote = fault->wrong >= RECEIVE_KEY, consumes = fault->opcode == IBV_WR_SEND;
    /* A message that fails locally fits into one packet: otherwise its first packets would have been sent. */
    size_t size = atomic(fault->opcode) ? 8 : remote ? SIZE : 500;
    struct ibv_sge local = sge(here, SOURCE, size), taken = sge(there, TARGET, SIZE);
    struct ibv_pd *other_domain = NULL;
    struct ibv_mr *extra = NULL;
    int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
    bool good = true;

    refresh(lane, shadow);
    drain_events(device, IBV_EVENT_DEVICE_FATAL);
    if (fault->wrong == LOCAL_DOMAIN || fault->wrong == RECEIVE_DOMAIN || fault->wrong == REMOTE_DOMAIN) {
        other_domain = ibv_alloc_pd(device->context);
        if (!other_domain)
            die("alloc_pd: %s", strerror(errno));
        extra = ibv_reg_mr(other_domain, remote ? there->memory : here->memory, MEMORY, access);
    } else if (fault->wrong == LOCAL_GONE || fault->wrong == REMOTE_GONE) {
        extra = ibv_reg_mr(device->pd, remote ? there->memory : here->memory, MEMORY, access);
    } else if (fault->wrong == LOCAL_READ_ONLY || fault->wrong == RECEIVE_READ_ONLY) {
        extra = ibv_reg_mr(device->pd, remote ? there->memory : here->memory, MEMORY, IBV_ACCESS_REMOTE_READ);
    } else if (fault->wrong == REMOTE_RIGHTS) {
        int right = fault->opcode == IBV_WR_RDMA_READ ? IBV_ACCESS_REMOTE_READ
                    : atomic(fault->opcode)           ? IBV_ACCESS_REMOTE_ATOMIC
                                                      : IBV_ACCESS_REMOTE_WRITE;

        extra = ibv_reg_mr(device->pd, there->memory, MEMORY, access & ~right);
    } else if (fault->wrong == REMOTE_QUEUE) {
        lane->access = 0;
        connect_lane(lane);
    }
    struct ibv_mr keys = extra ? *extra : *here->mr;

    if (fault->wrong == LOCAL_GONE || fault->wrong == REMOTE_GONE) {
        ibv_dereg_mr(extra);
        extra = NULL;
    }
    struct ibv_send_wr wr = request(lane, 0, fault->opcode, 2, &local, 1);

    if (!consumes)
        aim(&wr, lane, 0, TARGET);
    uint32_t *rkey = atomic(fault->opcode) ? &wr.wr.atomic.rkey : &wr.wr.rdma.rkey;
    uint64_t *address = atomic(fault->opcode) ? &wr.wr.atomic.remote_addr : &wr.wr.rdma.remote_addr;

    switch (fault->wrong) {
    case LOCAL_KEY: local.lkey ^= 0x00ff00ff; break;
    case LOCAL_GONE:
    case LOCAL_DOMAIN:
    case LOCAL_READ_ONLY: local.lkey = keys.lkey; break;
    case LOCAL_BOUNDS: local.addr = (uintptr_t)here->memory + MEMORY - size + 1; break;
    case RECEIVE_KEY: taken.lkey ^= 0x00ff00ff; break;
    case RECEIVE_DOMAIN:
    case RECEIVE_READ_ONLY: taken.lkey = keys.lkey; break;
    case RECEIVE_BOUNDS: taken.addr = (uintptr_t)there->memory + MEMORY - size + 1; break;
    case RECEIVE_SHORT: taken.length = SIZE - 1; break;
    case RECEIVE_SHORT_FIRST: taken.length = 100; break;
    case REMOTE_KEY: *rkey ^= 0x00ff00ff; break;
    case REMOTE_GONE:
    case REMOTE_DOMAIN:
    case REMOTE_RIGHTS: *rkey = keys.rkey; break;
    case REMOTE_END: *address = lane->end[1].address.base + MEMORY - size + 1; break;
    case REMOTE_START: *address = lane->end[1].address.base - 1; break;
    case REMOTE_WRAP: *address = UINT64_MAX - 10; break;
    case REMOTE_UNALIGNED: *address += 4; break;
    case REMOTE_QUEUE: break;
    }

    /* The message before completes; the faulty one stops the queue; the one behind it is flushed. */
    struct ibv_sge before = sge(here, 100, 50), behind = sge(here, 200, 50);
    struct ibv_send_wr first = request(lane, 0, IBV_WR_SEND, 1, &before, 1);
    struct ibv_send_wr last = request(lane, 0, IBV_WR_SEND, 3, &behind, 1);

    first.next = &wr;
    wr.next = &last;
    /* A flushed request completes even if unsignaled. Without a fence it could overtake the data of a read. */
    last.send_flags = IBV_SEND_FENCE;
    good = receive(lane, 1, 11, 1000, 50) && post_receive(lane, 1, 12, &taken, 1) && receive(lane, 1, 13, 1500, 60) &&
           post(lane, 0, &first) && await(lane, 0, (struct want){.id = 1, .opcode = IBV_WC_SEND}) &&
           await(lane, 1, (struct want){.id = 11, .opcode = IBV_WC_RECV, .length = 50});
    memcpy(shadow->memory[1] + 1000, shadow->memory[0] + 100, 50);

    bool completes = fault->receiver != NONE;
    /* The specification says invalid request; some cards report an access error. */
    bool either = fault->wrong == REMOTE_QUEUE;

    good = good && await(lane, 0, (struct want){.id = 2, .status = fault->sender,
                                               .also = either ? BIT_OF(IBV_WC_REM_ACCESS_ERR) : 0,
                                               .rxe = fault->rxe_sender});
    good = good && await(lane, 0, (struct want){.id = 3, .status = IBV_WC_WR_FLUSH_ERR});
    if (good && completes)
        good = await(lane, 1, (struct want){.id = 12, .status = fault->receiver, .rxe = fault->rxe_receiver,
                                               .opcode = IBV_WC_RECV});
    good = good && await_state(here->qp, IBV_QPS_ERR);
    good = good && await_state(there->receiver, remote ? IBV_QPS_ERR : IBV_QPS_RTS);
    if (good && fault->event != NONE && !options.rxe && !either)
        good = await_event(device, fault->event);
    lane->access = access & ~IBV_ACCESS_LOCAL_WRITE;
    good = renew_queues(lane, completes ? 13 : 12, completes ? 1 : 2) && good;
    /* The buffer of a failed receive is undefined; all other bytes are defined. */
    if (completes)
        memcpy(shadow->memory[1] + TARGET, there->memory + TARGET, SIZE);
    if (fault->wrong == RECEIVE_BOUNDS)
        memcpy(shadow->memory[1] + MEMORY - SIZE, there->memory + MEMORY - SIZE, SIZE);
    good = good && as_expected(lane, shadow);
    good = good && take_left(lane, completes ? 13 : 12, completes ? 1 : 2) && works(lane, shadow);
    if (extra)
        ibv_dereg_mr(extra);
    if (other_domain && ibv_dealloc_pd(other_domain))
        die("dealloc_pd: %s", strerror(errno));
    return good;
}

static void check_all(struct device *device, struct shadow *shadow, enum kind kind, bool srq)
{
    for (size_t at = 0; at < COUNT(faults); at++) {
        struct lane lane = {0};

        open_lane(&lane, device, kind, srq);
        begin("%s: %s", lane_name(&lane), faults[at].name);
        /* rxe refuses to post such a request. */
        if (!options.rxe || faults[at].wrong != REMOTE_UNALIGNED)
            run_fault(&lane, shadow, &faults[at]);
        finish();
        close_lane(&lane);
    }
}

void check_faults(struct device *device)
{
    static const struct {
        enum kind kind;
        bool srq;
    } lanes[] = {{RC, false}, {RC, true}, {XRC, true}};
    struct shadow shadow;

    make_shadow(&shadow);
    for (size_t at = 0; at < COUNT(lanes); at++) {
        if (lanes[at].kind == XRC && !device->xrcd) {
            absent("xrc", "the device has no XRC");
            continue;
        }
        check_all(device, &shadow, lanes[at].kind, lanes[at].srq);
        check_late(device, &shadow, lanes[at].kind, lanes[at].srq);
        check_flush(device, &shadow, lanes[at].kind, lanes[at].srq);
    }
    check_flush(device, &shadow, UC, false);
    check_flush(device, &shadow, UD, false);
    check_empty(device, &shadow);
    check_unreliable(device, &shadow);
    free_shadow(&shadow);
}
