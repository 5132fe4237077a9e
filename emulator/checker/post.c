/* Posting requests, waiting for their completions, comparing them. */
#include "check.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct ibv_sge sge(const struct end *end, size_t offset, size_t length)
{
    return (struct ibv_sge){.addr = (uintptr_t)end->memory + offset, .length = length, .lkey = end->mr->lkey};
}

struct ibv_send_wr request(struct lane *lane, int end, enum ibv_wr_opcode opcode, uint64_t id, struct ibv_sge *sges,
                           int count)
{
    const struct address *peer = &lane->end[!end].address;
    struct ibv_send_wr wr = {
        .wr_id = id, .sg_list = sges, .num_sge = count, .opcode = opcode, .send_flags = IBV_SEND_SIGNALED};

    if (lane->kind == UD) {
        wr.wr.ud.ah = lane->end[end].ah;
        wr.wr.ud.remote_qpn = peer->receiver;
        wr.wr.ud.remote_qkey = QKEY;
    } else if (lane->kind == XRC) {
        wr.qp_type.xrc.remote_srqn = peer->srqn;
    }
    return wr;
}

void aim(struct ibv_send_wr *wr, const struct lane *lane, int end, size_t offset)
{
    const struct address *peer = &lane->end[!end].address;

    if (wr->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD || wr->opcode == IBV_WR_ATOMIC_CMP_AND_SWP) {
        wr->wr.atomic.remote_addr = peer->base + offset;
        wr->wr.atomic.rkey = peer->rkey;
    } else {
        wr->wr.rdma.remote_addr = peer->base + offset;
        wr->wr.rdma.rkey = peer->rkey;
    }
}

bool post(struct lane *lane, int end, struct ibv_send_wr *wr)
{
    struct ibv_send_wr *bad = NULL;
    int result = ibv_post_send(lane->end[end].qp, wr, &bad);

    return EXPECT(!result, "post_send of request %lu: %s", bad ? (unsigned long)bad->wr_id : 0, strerror(result));
}

bool post_receive(struct lane *lane, int end, uint64_t id, struct ibv_sge *sges, int count)
{
    struct ibv_recv_wr wr = {.wr_id = id, .sg_list = sges, .num_sge = count}, *bad;
    struct end *here = &lane->end[end];
    int result = here->srq ? ibv_post_srq_recv(here->srq, &wr, &bad) : ibv_post_recv(here->qp, &wr, &bad);

    return EXPECT(!result, "post_recv of request %lu: %s", (unsigned long)id, strerror(result));
}

bool receive(struct lane *lane, int end, uint64_t id, size_t offset, size_t length)
{
    struct ibv_sge one = sge(&lane->end[end], offset, length);

    return post_receive(lane, end, id, &one, 1);
}

bool collect(struct end *end, struct ibv_wc *wcs, int count)
{
    uint64_t limit = now_ms() + patience();
    int have = 0;

    /* Fields that a provider does not write must not look as if it had. */
    memset(wcs, 0, count * sizeof *wcs);
    while (have < count) {
        int got = ibv_poll_cq(end->cq, count - have, wcs + have);

        if (got < 0)
            return fail("poll_cq: %d", got);
        have += got;
        if (!got && now_ms() > limit)
            return fail("expected %d completions, seen %d in time", count, have);
    }
    return true;
}

static void describe(char *text, size_t size, uint64_t id, enum ibv_wc_status status, enum ibv_wc_opcode opcode,
                     uint32_t vendor)
{
    if (status == IBV_WC_SUCCESS)
        snprintf(text, size, "request %lu: %s", (unsigned long)id, opcode_name(opcode));
    else if (vendor)
        snprintf(text, size, "request %lu: %s (vendor error 0x%x)", (unsigned long)id, status_name(status), vendor);
    else
        snprintf(text, size, "request %lu: %s", (unsigned long)id, status_name(status));
}

bool compare(struct lane *lane, int end, const struct ibv_wc *wc, struct want want)
{
    struct end *here = &lane->end[end];
    bool received = want.opcode & IBV_WC_RECV;
    char expected[96], seen[96];

    describe(expected, sizeof expected, want.id, want.status, want.opcode, 0);
    describe(seen, sizeof seen, wc->wr_id, wc->status, wc->opcode, wc->vendor_err);
    uint32_t others = want.also | (options.rxe ? want.rxe : 0);
    bool good_status = wc->status == want.status || (wc->status < 32 && others >> wc->status & 1);

    if (wc->wr_id != want.id || !good_status ||
        (want.status == IBV_WC_SUCCESS && wc->opcode != want.opcode))
        return fail("%s end %d: expected %s, seen %s", lane_name(lane), end, expected, seen);

    uint32_t qpn = received ? here->receiver->qp_num : here->qp->qp_num;
    bool good = EXPECT(wc->qp_num == qpn, "%s: expected qp_num 0x%x, seen 0x%x", seen, qpn, wc->qp_num);

    if (want.status != IBV_WC_SUCCESS)
        return good;
    /* Only send requests that fetch data have a length. */
    if (received || want.opcode == IBV_WC_RDMA_READ || want.opcode == IBV_WC_FETCH_ADD ||
        want.opcode == IBV_WC_COMP_SWAP)
        good &= EXPECT(wc->byte_len == want.length, "%s: expected byte_len %u, seen %u", seen, want.length,
                       wc->byte_len);
    if (!received)
        return good;
    /* rxe writes the kernel's value of this flag, which differs from libibverbs's. */
    int with_inv = options.rxe ? 4 : IBV_WC_WITH_INV;
    int flags = wc->wc_flags & (IBV_WC_WITH_IMM | with_inv);
    int wanted_flags = (want.with_imm ? IBV_WC_WITH_IMM : 0) | (want.with_inv ? with_inv : 0);

    good &= EXPECT(flags == wanted_flags, "%s: expected wc_flags 0x%x, seen 0x%x", seen, wanted_flags, wc->wc_flags);
    if (want.with_imm)
        good &= EXPECT(ntohl(wc->imm_data) == want.imm, "%s: expected imm_data 0x%x, seen 0x%x", seen, want.imm,
                       ntohl(wc->imm_data));
    if (want.with_inv)
        good &= EXPECT(wc->invalidated_rkey == want.imm, "%s: expected the invalidated key 0x%x, seen 0x%x", seen,
                       want.imm, wc->invalidated_rkey);
    if (lane->kind == UD) {
        uint32_t source = lane->end[!end].address.sender;
        bool grh = options.gid_index >= 0;

        good &= EXPECT(wc->src_qp == source, "%s: expected src_qp 0x%x, seen 0x%x", seen, source, wc->src_qp);
        good &= EXPECT(!(wc->wc_flags & IBV_WC_GRH) == !grh, "%s: expected %s GRH, seen wc_flags 0x%x", seen,
                       grh ? "a" : "no", wc->wc_flags);
        if (lane->device->port.link_layer != IBV_LINK_LAYER_ETHERNET) {
            uint32_t lid = lane->end[!end].address.lid;

            good &= EXPECT(wc->slid == lid, "%s: expected slid %u, seen %u", seen, lid, wc->slid);
            good &= EXPECT(wc->sl == 0 && wc->dlid_path_bits == 0, "%s: expected sl, dlid_path_bits 0, seen %u, %u", seen,
                           wc->sl, wc->dlid_path_bits);
        }
    }
    return good;
}

bool await(struct lane *lane, int end, struct want want)
{
    struct ibv_wc wc;

    if (!collect(&lane->end[end], &wc, 1))
        return fail("it was to be request %lu at end %d: %s", (unsigned long)want.id, end, status_name(want.status));
    return compare(lane, end, &wc, want);
}

bool nothing(struct end *end)
{
    struct ibv_wc wc = {0};
    uint64_t limit = now_ms() + QUIET;

    do {
        int got = ibv_poll_cq(end->cq, 1, &wc);

        if (got)
            return fail("expected no completion, seen request %lu: %s", (unsigned long)wc.wr_id,
                        status_name(wc.status));
    } while (now_ms() < limit);
    return true;
}

static int notices(struct end *end, int patience)
{
    struct pollfd poll_for = {.fd = end->channel->fd, .events = POLLIN};
    struct ibv_cq *cq;
    void *context;

    if (poll(&poll_for, 1, patience) != 1 || ibv_get_cq_event(end->channel, &cq, &context))
        return 0;
    ibv_ack_cq_events(cq, 1);
    return cq == end->cq && context == end ? 1 : -1;
}

bool await_notice(struct end *end)
{
    int seen = notices(end, patience());

    return EXPECT(seen == 1,
                  seen ? "the completion event is of another queue" : "expected a completion event, seen none");
}

bool no_notice(struct end *end)
{
    return EXPECT(!notices(end, QUIET), "expected no completion event, seen one");
}

/* splitmix64's finisher: each bit of the input changes half of the output's bits. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

void fill(unsigned char *bytes, size_t length, uint64_t seed)
{
    uint64_t start = mix(seed);

    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = htole64(mix(start ^ at / 8));

        memcpy(bytes + at, &word, length - at < 8 ? length - at : 8);
    }
}

size_t spread(const struct end *end, struct ibv_sge *sges, int count, size_t offset, size_t length)
{
    size_t at = 0;

    for (int number = 0; number < count; number++) {
        /* The second of several is empty; the last has the rest. */
        size_t part = number + 1 == count ? length - at : number == 1 ? 0 : (length - at) / 3;

        sges[number] = sge(end, offset + at + 13 * number, part);
        at += part;
    }
    return length + 13 * count;
}

static size_t move(const struct end *end, unsigned char *memory, const struct ibv_sge *sges, int count,
                   unsigned char *bytes, size_t length, bool out)
{
    size_t at = 0;

    for (int number = 0; number < count && at < length; number++) {
        unsigned char *place = memory + (sges[number].addr - (uintptr_t)end->memory);
        size_t part = sges[number].length < length - at ? sges[number].length : length - at;

        if (out)
            memcpy(bytes + at, place, part);
        else
            memcpy(place, bytes + at, part);
        at += part;
    }
    return at;
}

size_t gather(const struct end *end, unsigned char *memory, const struct ibv_sge *sges, int count, unsigned char *bytes)
{
    return move(end, memory, sges, count, bytes, SIZE_MAX, true);
}

void scatter(const struct end *end, unsigned char *memory, const struct ibv_sge *sges, int count, unsigned char *bytes,
             size_t length)
{
    move(end, memory, sges, count, bytes, length, false);
}

bool same(const char *what, const unsigned char *seen, const unsigned char *expected, size_t length)
{
    size_t at = 0, different = 0;

    if (!memcmp(seen, expected, length))
        return true;
    while (seen[at] == expected[at])
        at++;
    for (size_t next = at; next < length; next++)
        different += seen[next] != expected[next];
    return fail("%s: %zu of %zu bytes differ, the first at %zu: expected 0x%02x, seen 0x%02x", what, different, length,
                at, expected[at], seen[at]);
}

void maybe_flip(unsigned char *byte)
{
    if (options.flip)
        *byte ^= 0x10;
    options.flip = false;
}

void pause_ms(unsigned milliseconds)
{
    struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};

    while (nanosleep(&time, &time) && errno == EINTR)
        ;
}

uint64_t now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000ull + time.tv_nsec / 1000000;
}

const char *status_name(enum ibv_wc_status status)
{
    static const char *const names[] = {
        [IBV_WC_SUCCESS] = "SUCCESS",
        [IBV_WC_LOC_LEN_ERR] = "LOC_LEN_ERR",
        [IBV_WC_LOC_QP_OP_ERR] = "LOC_QP_OP_ERR",
        [IBV_WC_LOC_EEC_OP_ERR] = "LOC_EEC_OP_ERR",
        [IBV_WC_LOC_PROT_ERR] = "LOC_PROT_ERR",
        [IBV_WC_WR_FLUSH_ERR] = "WR_FLUSH_ERR",
        [IBV_WC_MW_BIND_ERR] = "MW_BIND_ERR",
        [IBV_WC_BAD_RESP_ERR] = "BAD_RESP_ERR",
        [IBV_WC_LOC_ACCESS_ERR] = "LOC_ACCESS_ERR",
        [IBV_WC_REM_INV_REQ_ERR] = "REM_INV_REQ_ERR",
        [IBV_WC_REM_ACCESS_ERR] = "REM_ACCESS_ERR",
        [IBV_WC_REM_OP_ERR] = "REM_OP_ERR",
        [IBV_WC_RETRY_EXC_ERR] = "RETRY_EXC_ERR",
        [IBV_WC_RNR_RETRY_EXC_ERR] = "RNR_RETRY_EXC_ERR",
        [IBV_WC_REM_ABORT_ERR] = "REM_ABORT_ERR",
        [IBV_WC_FATAL_ERR] = "FATAL_ERR",
        [IBV_WC_GENERAL_ERR] = "GENERAL_ERR",
    };

    return status < COUNT(names) && names[status] ? names[status] : "an unknown status";
}

const char *opcode_name(enum ibv_wc_opcode opcode)
{
    switch (opcode) {
    case IBV_WC_SEND: return "SEND";
    case IBV_WC_RDMA_WRITE: return "RDMA_WRITE";
    case IBV_WC_RDMA_READ: return "RDMA_READ";
    case IBV_WC_COMP_SWAP: return "COMP_SWAP";
    case IBV_WC_FETCH_ADD: return "FETCH_ADD";
    case IBV_WC_BIND_MW: return "BIND_MW";
    case IBV_WC_LOCAL_INV: return "LOCAL_INV";
    case IBV_WC_RECV: return "RECV";
    case IBV_WC_RECV_RDMA_WITH_IMM: return "RECV_RDMA_WITH_IMM";
    default: return "an unknown opcode";
    }
}

void make_shadow(struct shadow *shadow)
{
    for (int end = 0; end < 2; end++)
        if (!(shadow->memory[end] = malloc(MEMORY)))
            die("no memory");
}

void free_shadow(struct shadow *shadow)
{
    free(shadow->memory[0]);
    free(shadow->memory[1]);
}

void refresh(struct lane *lane, struct shadow *shadow)
{
    static uint64_t seed = 1 << 20;

    for (int end = 0; end < 2; end++) {
        fill(shadow->memory[end], MEMORY, seed++);
        memcpy(lane->end[end].memory, shadow->memory[end], MEMORY);
    }
}

bool as_expected(struct lane *lane, struct shadow *shadow)
{
    bool first = same("memory of end 0", lane->end[0].memory, shadow->memory[0], MEMORY);

    return same("memory of end 1", lane->end[1].memory, shadow->memory[1], MEMORY) && first;
}
