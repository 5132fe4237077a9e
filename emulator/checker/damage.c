/*
 * Deliberate driver errors, by mlx4's direct verbs: a strict device must notice them.
 *
 * Each case begins like a correct driver and does one thing wrong. With `none` nothing is wrong, and everything passes.
 */
#include "check.h"

#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <infiniband/mlx4dv.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SOURCE = 2048, TARGET = 65536, SIZE = 100 };

enum way { NO_DAMAGE, OWNER_BIT, RECEIVE_RECORD, CQ_RECORD, REQUEST_SIZE, OPCODE, HEADROOM, PREFETCH, BLUEFLAME, WAYS };

static const char *const names[WAYS] = {
    [NO_DAMAGE] = "none",         [OWNER_BIT] = "owner-bit",       [RECEIVE_RECORD] = "receive-record",
    [CQ_RECORD] = "cq-record",    [REQUEST_SIZE] = "request-size", [OPCODE] = "opcode",
    [HEADROOM] = "headroom",      [PREFETCH] = "prefetch",         [BLUEFLAME] = "blueflame",
};

const char *const damages =
    "none owner-bit receive-record cq-record request-size opcode headroom prefetch blueflame\n";

static int find_provider(struct dl_phdr_info *info, size_t size, void *found)
{
    (void)size;
    if (!info->dlpi_name || !strstr(info->dlpi_name, "libmlx4"))
        return 0;
    *(const char **)found = info->dlpi_name;
    return 1;
}

/* The provider's own function. It is looked up at run time, because the checker also runs without this provider. */
static int (*direct_verbs(void))(struct mlx4dv_obj *, uint64_t)
{
    const char *path = NULL;

    dl_iterate_phdr(find_provider, &path);
    void *provider = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    void *function = provider ? dlsym(provider, "mlx4dv_init_obj") : NULL;
    int (*init)(struct mlx4dv_obj *, uint64_t) = NULL;

    if (!function)
        die("--break: this device is not one of mlx4");
    memcpy(&init, &function, sizeof init);
    return init;
}

struct raw {
    struct mlx4dv_qp qp;
    struct mlx4dv_cq cq;
};

static struct raw look_inside(struct end *end)
{
    struct raw raw = {0};
    struct mlx4dv_obj objects = {.qp = {end->qp, &raw.qp}, .cq = {end->cq, &raw.cq}};
    int result = direct_verbs()(&objects, MLX4DV_OBJ_QP | MLX4DV_OBJ_CQ);

    if (result)
        die("mlx4dv_init_obj: %s", strerror(result));
    return raw;
}

static struct mlx4_wqe_ctrl_seg *slot(const struct raw *raw, uint32_t index)
{
    return (void *)((char *)raw->qp.buf.buf + raw->qp.sq.offset +
                    ((size_t)(index & (raw->qp.sq.wqe_cnt - 1)) << raw->qp.sq.wqe_shift));
}

/* The first send of a fresh queue pair, written by hand into slot 0, and its doorbell. */
static void send_by_hand(struct end *end, const struct raw *raw, enum way way)
{
    struct mlx4_wqe_ctrl_seg *control = slot(raw, 0);
    struct mlx4_wqe_data_seg *data = (void *)(control + 1);
    struct ibv_sge local = sge(end, SOURCE, SIZE);
    uint32_t opcode = way == OPCODE ? 0x1e : MLX4_OPCODE_SEND;
    /* On the first round through the queue the owner bit of a valid request is 0. */
    uint32_t owner = way == OWNER_BIT ? 1u << 31 : 0;

    data->byte_count = htobe32(local.length);
    data->lkey = htobe32(local.lkey);
    data->addr = htobe64(local.addr);
    control->imm = 0;
    control->srcrb_flags = htobe32(MLX4_WQE_CTRL_CQ_UPDATE);
    control->bf_qpn = 0;
    /* In units of 16 bytes: control and one element, or more than any slot has. */
    control->fence_size = way == REQUEST_SIZE ? 0x3f : 2;
    /* The next request, or one that a card may have read ahead, looks valid although it was never written. */
    if (way == HEADROOM || way == PREFETCH)
        slot(raw, way == HEADROOM ? 1 : 5)->owner_opcode = htobe32(MLX4_OPCODE_SEND);
    __sync_synchronize();
    control->owner_opcode = htobe32(opcode | owner);
    __sync_synchronize();
    if (way != BLUEFLAME) {
        *(volatile uint32_t *)raw->qp.sdb = raw->qp.doorbell_qpn;
        return;
    }
    /* The same request on the BlueFlame page, with one bit of its address flipped. */
    long page = sysconf(_SC_PAGESIZE);
    volatile uint64_t *blueflame =
        mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, end->qp->context->cmd_fd, page);
    uint64_t copy[8];

    if (blueflame == MAP_FAILED)
        die("the BlueFlame page: %s", strerror(errno));
    /* It has the queue pair's number in front of the size; `doorbell_qpn` is that number, shifted by 8 bits. */
    control->bf_qpn |= raw->qp.doorbell_qpn;
    memcpy(copy, control, sizeof copy);
    copy[3] ^= htobe64(64);
    for (size_t at = 0; at < COUNT(copy); at++)
        blueflame[at] = copy[at];
    __sync_synchronize();
    munmap((void *)blueflame, page);
}

static bool one_by_hand(struct lane *lane, enum way way)
{
    struct end *here = &lane->end[0], *there = &lane->end[1];
    struct raw raw = look_inside(here);
    struct ibv_wc wc;

    if (!receive(lane, 1, 5, TARGET, SIZE))
        return false;
    send_by_hand(here, &raw, way);
    /* The provider does not know this request, so its wr_id is undefined. */
    return collect(here, &wc, 1) &&
           EXPECT(wc.status == IBV_WC_SUCCESS, "expected SUCCESS, seen %s (vendor error 0x%x)", status_name(wc.status),
                  wc.vendor_err) &&
           await(lane, 1, (struct want){.id = 5, .opcode = IBV_WC_RECV, .length = SIZE}) &&
           same("the message", there->memory + TARGET, here->memory + SOURCE, SIZE) && nothing(here) && nothing(there);
}

static bool message(struct lane *lane, uint64_t id)
{
    struct ibv_sge local = sge(&lane->end[0], SOURCE, SIZE);
    struct ibv_send_wr wr = request(lane, 0, IBV_WR_SEND, id, &local, 1);

    return post(lane, 0, &wr) && await(lane, 0, (struct want){.id = id, .opcode = IBV_WC_SEND}) &&
           await(lane, 1, (struct want){.id = id, .opcode = IBV_WC_RECV, .length = SIZE});
}

static void move_back(volatile __be32 *record, uint32_t by)
{
    *record = htobe32(be32toh(*record) - by);
    __sync_synchronize();
}

/* The device has read the doorbell records for the messages before, and must read them again for the last. */
static bool records(struct lane *lane, enum way way)
{
    struct raw raw = look_inside(&lane->end[1]);

    for (uint64_t id = 0; id < 6; id++)
        if (!receive(lane, 1, id, TARGET, SIZE))
            return false;
    for (uint64_t id = 0; id < 6; id++)
        if (!message(lane, id))
            return false;
    if (!receive(lane, 1, 6, TARGET, SIZE))
        return false;
    if (way == RECEIVE_RECORD)
        move_back(raw.qp.rdb, 3);
    if (way == CQ_RECORD)
        move_back(raw.cq.set_ci_db, 3);
    return message(lane, 6);
}

void damage(struct device *device, const char *how)
{
    int way = 0;

    while (way < WAYS && strcmp(how, names[way]))
        way++;
    if (way == WAYS)
        die("--break %s: not known; there are %s", how, damages);
    for (int record = 0; record < 2; record++) {
        struct lane lane;

        if (way != NO_DAMAGE && record != (way == RECEIVE_RECORD || way == CQ_RECORD))
            continue;
        plan_lane(&lane, device, RC, false);
        /* The device must not retry forever. */
        lane.rnr_retry = 2;
        /* Slots smaller than the largest request. */
        lane.max_inline = 0;
        open_lane(&lane, device, RC, false);
        begin("%s, broken: %s", record ? "doorbell records" : "a request by hand", how);
        if (record)
            records(&lane, way);
        else
            one_by_hand(&lane, way);
        finish();
        close_lane(&lane);
    }
}
