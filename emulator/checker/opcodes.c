/* Every opcode over every transport: completions, and every byte of both ends' memory. */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

enum { SOURCE = 4096 + 3, TARGET = 131072 + 5, ATOMIC = 32768, IMM = 0x81c3a55a };

static bool consumes(enum ibv_wr_opcode opcode)
{
    return opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

static bool has_imm(enum ibv_wr_opcode opcode)
{
    return opcode == IBV_WR_SEND_WITH_IMM || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

static enum ibv_wc_opcode sent_as(enum ibv_wr_opcode opcode)
{
    switch (opcode) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM: return IBV_WC_RDMA_WRITE;
    case IBV_WR_RDMA_READ: return IBV_WC_RDMA_READ;
    default: return IBV_WC_SEND;
    }
}

/* An empty message, which arrives after everything that was sent before. */
static bool follow(struct lane *lane, int from)
{
    struct ibv_send_wr wr = request(lane, from, IBV_WR_SEND, 19, NULL, 0);

    return post_receive(lane, !from, 17, NULL, 0) && post(lane, from, &wr) &&
           await(lane, from, (struct want){.id = 19, .opcode = IBV_WC_SEND}) &&
           await(lane, !from, (struct want){.id = 17, .opcode = IBV_WC_RECV});
}

/* One message of `size` bytes in `parts` elements at either side. */
static bool move_one(struct lane *lane, struct shadow *shadow, int from, enum ibv_wr_opcode opcode, size_t size,
                     int parts, int flags)
{
    static unsigned char bytes[MEMORY];
    struct end *here = &lane->end[from], *there = &lane->end[!from];
    struct ibv_sge local[4], remote[5];
    size_t header = lane->kind == UD ? GRH : 0;
    bool sends = opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM;

    refresh(lane, shadow);
    spread(here, local, parts, SOURCE, size);
    if (consumes(opcode)) {
        int count = 0;

        /* A write with immediate data takes a receive, but does not use its memory. */
        if (sends) {
            if (header)
                remote[count++] = sge(there, TARGET - 1000, header);
            spread(there, remote + count, parts, TARGET, size);
            count += parts;
            if (count > (int)lane->sges)
                return fail("the check wants more elements than the lane has");
        }
        if (!post_receive(lane, !from, 7, remote, count))
            return false;
    }
    struct ibv_send_wr wr = request(lane, from, opcode, 9, local, parts);

    wr.send_flags |= flags;
    wr.imm_data = htonl(IMM);
    if (!sends)
        aim(&wr, lane, from, TARGET);
    gather(here, shadow->memory[from], local, parts, bytes);
    if (!post(lane, from, &wr))
        return false;
    if (flags & IBV_SEND_INLINE)
        for (size_t at = SOURCE; at < SOURCE + size + 64; at++)
            here->memory[at] = shadow->memory[from][at] = ~shadow->memory[from][at];

    struct want sent = {.id = 9, .opcode = sent_as(opcode), .length = size};
    struct want received = {.id = 7,
                            .opcode = sends ? IBV_WC_RECV : IBV_WC_RECV_RDMA_WITH_IMM,
                            .length = size + header,
                            .with_imm = has_imm(opcode),
                            .imm = IMM};
    bool good = await(lane, from, sent);

    if (consumes(opcode))
        good &= await(lane, !from, received);
    /* An unreliable write has arrived when a later message has. */
    if (lane->kind == UC && opcode == IBV_WR_RDMA_WRITE)
        good = good && follow(lane, from);
    if (!good)
        return false;
    if (sends) {
        scatter(there, shadow->memory[!from], remote + !!header, parts, bytes, size);
        /* The header is checked elsewhere. */
        memcpy(shadow->memory[!from] + TARGET - 1000, there->memory + TARGET - 1000, header);
    } else if (opcode == IBV_WR_RDMA_READ) {
        scatter(here, shadow->memory[from], local, parts, shadow->memory[!from] + TARGET, size);
    } else {
        memcpy(shadow->memory[!from] + TARGET, bytes, size);
    }
    if (size)
        maybe_flip(there->memory + TARGET);
    return as_expected(lane, shadow);
}

static const struct {
    enum ibv_wr_opcode opcode;
    const char *name;
    bool reliable, connected; /* services that support it */
} movers[] = {
    {IBV_WR_SEND, "send", false, false},
    {IBV_WR_SEND_WITH_IMM, "send with imm", false, false},
    {IBV_WR_RDMA_WRITE, "write", false, true},
    {IBV_WR_RDMA_WRITE_WITH_IMM, "write with imm", false, true},
    {IBV_WR_RDMA_READ, "read", true, true},
};

static void check_moves(struct lane *lane, struct shadow *shadow)
{
    unsigned mtu = mtu_bytes(lane);
    const size_t sizes[] = {0, 1, 7, 64, mtu - 1, mtu, mtu + 1, 3 * mtu + 17, 65536};

    for (size_t which = 0; which < COUNT(movers); which++) {
        if ((movers[which].connected && lane->kind == UD) ||
            (movers[which].reliable && lane->kind != RC && lane->kind != XRC))
            continue;
        for (size_t at = 0; at < COUNT(sizes); at++) {
            if (lane->kind == UD && sizes[at] > mtu)
                continue;
            /* An empty message usually has no element. */
            const int parts[] = {sizes[at] ? 1 : 0, 3};

            for (size_t split = 0; split < COUNT(parts); split++) {
                begin("%s: %s of %zu bytes in %d elements", lane_name(lane), movers[which].name, sizes[at],
                      parts[split]);
                move_one(lane, shadow, at & 1, movers[which].opcode, sizes[at], parts[split], 0);
                if (!finish())
                    return;
            }
        }
    }
}

static void check_inline(struct lane *lane, struct shadow *shadow)
{
    const size_t sizes[] = {0, 1, 12, 60, 61, 64, 65, 124, 125, 200, lane->device->max_inline};

    for (size_t which = 0; which < 4; which++) {
        if (movers[which].connected && lane->kind == UD)
            continue;
        for (size_t at = 0; at < COUNT(sizes); at++) {
            if (sizes[at] > lane->device->max_inline)
                continue;
            begin("%s: %s of %zu bytes inline", lane_name(lane), movers[which].name, sizes[at]);
            move_one(lane, shadow, at & 1, movers[which].opcode, sizes[at], at % 3 == 2 ? 3 : 1, IBV_SEND_INLINE);
            if (!finish())
                return;
        }
    }
}

static bool atomic(struct lane *lane, struct shadow *shadow, enum ibv_wr_opcode opcode, uint64_t value,
                   uint64_t compare_add, uint64_t swap, uint64_t result)
{
    struct ibv_sge local = sge(&lane->end[0], ATOMIC + 8, 8);
    struct ibv_send_wr wr = request(lane, 0, opcode, 11, &local, 1);

    refresh(lane, shadow);
    memcpy(lane->end[1].memory + ATOMIC, &value, 8);
    memcpy(shadow->memory[0] + ATOMIC + 8, &value, 8);
    memcpy(shadow->memory[1] + ATOMIC, &result, 8);
    aim(&wr, lane, 0, ATOMIC);
    wr.wr.atomic.compare_add = compare_add;
    wr.wr.atomic.swap = swap;
    bool add = opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;

    return post(lane, 0, &wr) &&
           await(lane, 0, (struct want){.id = 11, .opcode = add ? IBV_WC_FETCH_ADD : IBV_WC_COMP_SWAP, .length = 8}) &&
           as_expected(lane, shadow);
}

static void check_atomics(struct lane *lane, struct shadow *shadow)
{
    const uint64_t value = 0xfedcba9876543210, other = 0x0123456789abcdef;

    begin("%s: fetch-add", lane_name(lane));
    atomic(lane, shadow, IBV_WR_ATOMIC_FETCH_AND_ADD, value, other, 0, value + other);
    finish();
    begin("%s: fetch-add that carries out of 64 bits", lane_name(lane));
    atomic(lane, shadow, IBV_WR_ATOMIC_FETCH_AND_ADD, UINT64_MAX, 2, 0, 1);
    finish();
    begin("%s: compare-swap of an equal value", lane_name(lane));
    atomic(lane, shadow, IBV_WR_ATOMIC_CMP_AND_SWP, value, value, other, other);
    finish();
    begin("%s: compare-swap of another value", lane_name(lane));
    atomic(lane, shadow, IBV_WR_ATOMIC_CMP_AND_SWP, value, value + 1, other, value);
    finish();
}

/* A fenced request waits for the reads before it: it sends the data that they fetched. */
static void check_fence(struct lane *lane, struct shadow *shadow)
{
    const size_t size = 20000;

    begin("%s: a fenced send of what a read brings", lane_name(lane));
    for (int round = 0; round < 4; round++) {
        struct ibv_sge brought = sge(&lane->end[0], SOURCE, size), old = sge(&lane->end[0], ATOMIC, 8);
        struct ibv_send_wr read = request(lane, 0, IBV_WR_RDMA_READ, 1, &brought, 1);
        struct ibv_send_wr add = request(lane, 0, IBV_WR_ATOMIC_FETCH_AND_ADD, 2, &old, 1);
        struct ibv_sge both[] = {brought, old};
        struct ibv_send_wr send = request(lane, 0, IBV_WR_SEND, 3, both, 2);

        refresh(lane, shadow);
        aim(&read, lane, 0, TARGET);
        aim(&add, lane, 0, ATOMIC + 1024);
        add.wr.atomic.compare_add = 1;
        send.send_flags |= IBV_SEND_FENCE;
        read.next = &add;
        add.next = &send;
        if (!receive(lane, 1, 4, 8192, size + 8) || !post(lane, 0, &read))
            break;
        bool good = await(lane, 0, (struct want){.id = 1, .opcode = IBV_WC_RDMA_READ, .length = size});

        good = good && await(lane, 0, (struct want){.id = 2, .opcode = IBV_WC_FETCH_ADD, .length = 8});
        good = good && await(lane, 0, (struct want){.id = 3, .opcode = IBV_WC_SEND});
        good = good && await(lane, 1, (struct want){.id = 4, .opcode = IBV_WC_RECV, .length = size + 8});
        if (!good)
            break;
        memcpy(shadow->memory[0] + SOURCE, shadow->memory[1] + TARGET, size);
        uint64_t counter;

        memcpy(&counter, shadow->memory[1] + ATOMIC + 1024, 8);
        memcpy(shadow->memory[0] + ATOMIC, &counter, 8);
        counter++;
        /* The atomic returns the value before the addition. */
        memcpy(shadow->memory[1] + 8192, shadow->memory[0] + SOURCE, size);
        memcpy(shadow->memory[1] + 8192 + size, shadow->memory[0] + ATOMIC, 8);
        memcpy(shadow->memory[1] + ATOMIC + 1024, &counter, 8);
        if (!as_expected(lane, shadow))
            break;
    }
    finish();
}

void check_opcodes(struct device *device)
{
    static const struct {
        enum kind kind;
        bool srq;
    } lanes[] = {{RC, false}, {RC, true}, {UC, false}, {UD, false}, {UD, true}, {XRC, true}};
    struct shadow shadow;

    make_shadow(&shadow);
    for (size_t at = 0; at < COUNT(lanes); at++) {
        struct lane lane = {0};

        if (lanes[at].kind == XRC && !device->xrcd) {
            absent("xrc", "the device has no XRC");
            continue;
        }
        open_lane(&lane, device, lanes[at].kind, lanes[at].srq);
        check_moves(&lane, &shadow);
        check_inline(&lane, &shadow);
        if (lane.kind == RC || lane.kind == XRC) {
            if (device->attr.atomic_cap == IBV_ATOMIC_NONE)
                absent("atomics", "the device has no atomics");
            else
                check_atomics(&lane, &shadow);
            check_fence(&lane, &shadow);
        }
        close_lane(&lane);
    }
    free_shadow(&shadow);
}
