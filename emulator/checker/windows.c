/* Memory windows: binding, writing through them, bounds, invalidation. */
#include "check.h"

#include <errno.h>
#include <string.h>

enum { START = 40000, LENGTH = 9000, SOURCE = 2048, SIZE = 700 };

static bool bound(struct lane *lane, uint64_t id)
{
    return await(lane, 1, (struct want){.id = id, .opcode = IBV_WC_BIND_MW});
}

/* Binds the window to part of end 1's memory. */
static bool bind(struct lane *lane, struct ibv_mw *mw, size_t start, size_t length, int access)
{
    struct end *there = &lane->end[1];
    struct ibv_mw_bind_info info = {
        .mr = there->mr, .addr = (uintptr_t)there->memory + start, .length = length, .mw_access_flags = access};

    if (mw->type == IBV_MW_TYPE_1) {
        struct ibv_mw_bind wish = {.wr_id = 50, .send_flags = IBV_SEND_SIGNALED, .bind_info = info};
        int result = ibv_bind_mw(there->qp, mw, &wish);

        return EXPECT(!result, "bind_mw: %s", strerror(result)) && bound(lane, 50);
    }
    struct ibv_send_wr wr = {.wr_id = 51, .opcode = IBV_WR_BIND_MW, .send_flags = IBV_SEND_SIGNALED};

    wr.bind_mw.mw = mw;
    wr.bind_mw.rkey = ibv_inc_rkey(mw->rkey);
    wr.bind_mw.bind_info = info;
    if (!post(lane, 1, &wr) || !bound(lane, 51))
        return false;
    mw->rkey = wr.bind_mw.rkey;
    return true;
}

/* A write or read of SIZE bytes through a key. */
static bool use(struct lane *lane, struct shadow *shadow, enum ibv_wr_opcode opcode, uint32_t rkey, size_t offset,
                enum ibv_wc_status status)
{
    struct ibv_sge local = sge(&lane->end[0], SOURCE, SIZE);
    struct ibv_send_wr wr = request(lane, 0, opcode, 60, &local, 1);
    bool read = opcode == IBV_WR_RDMA_READ;

    refresh(lane, shadow);
    aim(&wr, lane, 0, offset);
    wr.wr.rdma.rkey = rkey;
    if (!post(lane, 0, &wr) ||
        !await(lane, 0, (struct want){.id = 60, .status = status,
                                      .opcode = read ? IBV_WC_RDMA_READ : IBV_WC_RDMA_WRITE, .length = SIZE}))
        return false;
    if (!status && read)
        memcpy(shadow->memory[0] + SOURCE, shadow->memory[1] + offset, SIZE);
    if (!status && !read)
        memcpy(shadow->memory[1] + offset, shadow->memory[0] + SOURCE, SIZE);
    bool good = as_expected(lane, shadow);

    if (status) {
        fail_lane(lane);
        connect_lane(lane);
    }
    return good;
}

static bool refused(struct lane *lane, struct shadow *shadow, uint32_t rkey, size_t offset)
{
    return use(lane, shadow, IBV_WR_RDMA_WRITE, rkey, offset, IBV_WC_REM_ACCESS_ERR);
}

static bool invalidate(struct lane *lane, uint32_t rkey)
{
    struct ibv_send_wr wr = {.wr_id = 52, .opcode = IBV_WR_LOCAL_INV, .send_flags = IBV_SEND_SIGNALED};

    wr.invalidate_rkey = rkey;
    return post(lane, 1, &wr) && await(lane, 1, (struct want){.id = 52, .opcode = IBV_WC_LOCAL_INV});
}

static void check_type(struct device *device, struct shadow *shadow, enum ibv_mw_type type)
{
    const int all = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
    const int number = type == IBV_MW_TYPE_1 ? 1 : 2;
    struct lane lane = {0};

    open_lane(&lane, device, RC, false);
    struct ibv_mw *mw = ibv_alloc_mw(device->pd, type);

    begin("a window of type %d: bound, written and read through, kept to its bounds", number);
    if (!mw) {
        fail("alloc_mw: %s", strerror(errno));
        finish();
        close_lane(&lane);
        return;
    }
    if (bind(&lane, mw, START, LENGTH, all) &&
        use(&lane, shadow, IBV_WR_RDMA_WRITE, mw->rkey, START, IBV_WC_SUCCESS) &&
        use(&lane, shadow, IBV_WR_RDMA_WRITE, mw->rkey, START + LENGTH - SIZE, IBV_WC_SUCCESS) &&
        use(&lane, shadow, IBV_WR_RDMA_READ, mw->rkey, START + 11, IBV_WC_SUCCESS) &&
        /* rxe checks the bounds of the region only. */
        !options.rxe)
        refused(&lane, shadow, mw->rkey, START + LENGTH - SIZE + 1);
    /* Resetting a queue pair invalidates its windows of type 2. */
    finish();

    begin("a window of type %d: not written before its start, nor without the right", number);
    uint32_t old = mw->rkey;

    ibv_dealloc_mw(mw);
    mw = ibv_alloc_mw(device->pd, type);
    if (!mw)
        die("alloc_mw: %s", strerror(errno));
    if (bind(&lane, mw, START, LENGTH, IBV_ACCESS_REMOTE_READ) &&
        use(&lane, shadow, IBV_WR_RDMA_READ, mw->rkey, START, IBV_WC_SUCCESS) &&
        refused(&lane, shadow, mw->rkey, START))
        refused(&lane, shadow, old, START);
    finish();
    ibv_dealloc_mw(mw);
    mw = ibv_alloc_mw(device->pd, type);
    if (!mw)
        die("alloc_mw: %s", strerror(errno));

    if (type == IBV_MW_TYPE_1) {
        begin("a window of type 1: bound anew, its old key is dead");
        if (bind(&lane, mw, START, LENGTH, all)) {
            old = mw->rkey;
            if (bind(&lane, mw, START + LENGTH, LENGTH, all) && EXPECT(mw->rkey != old, "the key is the old one") &&
                use(&lane, shadow, IBV_WR_RDMA_WRITE, mw->rkey, START + LENGTH, IBV_WC_SUCCESS))
                refused(&lane, shadow, old, START);
        }
        finish();
        begin("a window of type 1: bound to nothing");
        if (bind(&lane, mw, START, LENGTH, all)) {
            old = mw->rkey;
            if (bind(&lane, mw, START, 0, all))
                refused(&lane, shadow, old, START);
        }
        finish();
    } else {
        begin("a window of type 2: invalidated by its owner");
        if (bind(&lane, mw, START, LENGTH, all) &&
            use(&lane, shadow, IBV_WR_RDMA_WRITE, mw->rkey, START, IBV_WC_SUCCESS) && invalidate(&lane, mw->rkey))
            refused(&lane, shadow, mw->rkey, START);
        finish();

        begin("a window of type 2: invalidated by the peer's send");
        if (bind(&lane, mw, START, LENGTH, all) &&
            use(&lane, shadow, IBV_WR_RDMA_WRITE, mw->rkey, START, IBV_WC_SUCCESS)) {
            struct ibv_sge local = sge(&lane.end[0], SOURCE, SIZE);
            struct ibv_send_wr wr = request(&lane, 0, IBV_WR_SEND_WITH_INV, 61, &local, 1);

            wr.invalidate_rkey = mw->rkey;
            refresh(&lane, shadow);
            memcpy(shadow->memory[1] + START, shadow->memory[0] + SOURCE, SIZE);
            if (receive(&lane, 1, 62, START, SIZE) && post(&lane, 0, &wr) &&
                await(&lane, 0, (struct want){.id = 61, .opcode = IBV_WC_SEND}) &&
                await(&lane, 1, (struct want){.id = 62, .opcode = IBV_WC_RECV, .length = SIZE, .with_inv = true,
                                              .imm = mw->rkey}) &&
                as_expected(&lane, shadow))
                refused(&lane, shadow, mw->rkey, START);
        }
        finish();
    }
    ibv_dealloc_mw(mw);
    close_lane(&lane);
}

void check_windows(struct device *device)
{
    struct shadow shadow;

    make_shadow(&shadow);
    if (device->windows1)
        check_type(device, &shadow, IBV_MW_TYPE_1);
    else
        absent("windows1", "the device has no memory windows of type 1");
    if (device->windows2)
        check_type(device, &shadow, IBV_MW_TYPE_2);
    else
        absent("windows2", "the device has no memory windows of type 2");
    free_shadow(&shadow);
}
