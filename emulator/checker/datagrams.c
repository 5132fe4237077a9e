/* Datagrams: headers, keys, multicast groups, answers to the sender. */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

enum { SOURCE = 2048, TARGET = 65536, SIZE = 300 };

static bool arrives(struct lane *lane, int end, uint64_t id)
{
    return await(lane, end, (struct want){.id = id, .opcode = IBV_WC_RECV, .length = SIZE + GRH});
}

static bool sent(struct lane *lane, int end, uint64_t id)
{
    return await(lane, end, (struct want){.id = id, .opcode = IBV_WC_SEND});
}

static void check_header(struct lane *lane)
{
    struct ibv_sge local = sge(&lane->end[0], SOURCE, SIZE);
    struct ibv_send_wr wr = request(lane, 0, IBV_WR_SEND, 1, &local, 1);
    bool infiniband = lane->device->port.link_layer != IBV_LINK_LAYER_ETHERNET;

    begin("ud: the global routing header");
    if (receive(lane, 1, 2, TARGET, SIZE + GRH) && post(lane, 0, &wr) && sent(lane, 0, 1) && arrives(lane, 1, 2) &&
        options.gid_index >= 0 && infiniband) {
        const unsigned char *header = lane->end[1].memory + TARGET;

        same("the sender's GID in the header", header + 8, lane->end[0].address.gid.raw, 16);
        same("the receiver's GID in the header", header + 24, lane->end[1].address.gid.raw, 16);
        EXPECT(header[0] >> 4 == 6, "IP version in the header: expected 6, seen %u", header[0] >> 4);
        EXPECT(header[6] == 0x1b, "next header: expected 0x1b, seen 0x%x", header[6]);
    }
    finish();

    begin("ud: an answer to whoever sent");
    struct ibv_wc wc;

    if (receive(lane, 1, 2, TARGET, SIZE + GRH) && post(lane, 0, &wr) && sent(lane, 0, 1) &&
        collect(&lane->end[1], &wc, 1)) {
        struct ibv_grh *grh = (struct ibv_grh *)(lane->end[1].memory + TARGET);
        struct ibv_ah *ah = ibv_create_ah_from_wc(lane->device->pd, &wc, grh, options.port);
        struct ibv_sge back = sge(&lane->end[1], SOURCE, SIZE);
        struct ibv_send_wr answer = request(lane, 1, IBV_WR_SEND, 3, &back, 1);

        if (!ah) {
            fail("create_ah_from_wc: %s", strerror(errno));
        } else {
            answer.wr.ud.ah = ah;
            answer.wr.ud.remote_qpn = wc.src_qp;
            if (receive(lane, 0, 4, TARGET, SIZE + GRH) && post(lane, 1, &answer) && sent(lane, 1, 3) &&
                arrives(lane, 0, 4))
                same("the answer", lane->end[0].memory + TARGET + GRH, lane->end[1].memory + SOURCE, SIZE);
            ibv_destroy_ah(ah);
        }
    }
    finish();
}

static void check_keys(struct lane *lane)
{
    struct ibv_sge local = sge(&lane->end[0], SOURCE, SIZE);
    struct ibv_send_wr wr = request(lane, 0, IBV_WR_SEND, 1, &local, 1);

    begin("ud: a datagram with another Q_Key is dropped");
    wr.wr.ud.remote_qkey = QKEY + 1;
    if (receive(lane, 1, 2, TARGET, SIZE + GRH) && post(lane, 0, &wr) && sent(lane, 0, 1) &&
        nothing(&lane->end[1])) {
        wr.wr.ud.remote_qkey = QKEY;
        if (post(lane, 0, &wr) && sent(lane, 0, 1))
            arrives(lane, 1, 2);
    }
    finish();

    begin("ud: a Q_Key with its top bit set stands for the sender's own");
    wr.wr.ud.remote_qkey = 0x80000000;
    /* rxe sends it anyway. */
    if (!options.rxe && receive(lane, 1, 2, TARGET, SIZE + GRH) && post(lane, 0, &wr) && sent(lane, 0, 1))
        arrives(lane, 1, 2);
    finish();

    begin("ud: a datagram to itself");
    wr = request(lane, 0, IBV_WR_SEND, 1, &local, 1);
    wr.wr.ud.remote_qpn = lane->end[0].qp->qp_num;
    struct ibv_wc wcs[2];

    if (receive(lane, 0, 2, TARGET, SIZE + GRH) && post(lane, 0, &wr) && collect(&lane->end[0], wcs, 2)) {
        const struct ibv_wc *got = wcs[0].wr_id == 2 ? &wcs[0] : &wcs[1];

        EXPECT(got->wr_id == 2 && !got->status && got->byte_len == SIZE + GRH &&
                   got->src_qp == lane->end[0].qp->qp_num,
               "seen request %lu, %s, byte_len %u, src_qp 0x%x", (unsigned long)got->wr_id, status_name(got->status),
               got->byte_len, got->src_qp);
        same("the datagram", lane->end[0].memory + TARGET + GRH, lane->end[0].memory + SOURCE, SIZE);
    }
    finish();
}

static void check_sizes(struct lane *lane)
{
    unsigned most = 128u << lane->device->port.active_mtu;
    struct ibv_sge local = sge(&lane->end[0], 0, most);
    struct ibv_send_wr wr = request(lane, 0, IBV_WR_SEND, 1, &local, 1);

    begin("ud: as long as the port's MTU, %u bytes", most);
    fill(lane->end[0].memory, MEMORY, 7);
    if (receive(lane, 1, 2, TARGET, most + GRH) && post(lane, 0, &wr) && sent(lane, 0, 1) &&
        await(lane, 1, (struct want){.id = 2, .opcode = IBV_WC_RECV, .length = most + GRH}))
        same("the datagram", lane->end[1].memory + TARGET + GRH, lane->end[0].memory, most);
    finish();

    begin("ud: longer than the port's MTU by a byte");
    local.length++;
    if (receive(lane, 1, 2, TARGET, MEMORY - TARGET) && post(lane, 0, &wr))
        /* rxe reports success to the sender. */
        await(lane, 0, (struct want){.id = 1, .status = options.rxe ? IBV_WC_SUCCESS : IBV_WC_LOC_LEN_ERR});
    nothing(&lane->end[1]);
    fail_lane(lane);
    await(lane, 1, (struct want){.id = 2, .status = IBV_WC_WR_FLUSH_ERR, .opcode = IBV_WC_RECV});
    connect_lane(lane);
    finish();

    if (options.rxe)
        return;
    begin("ud: a receive too short by a byte");
    local.length = SIZE;
    if (receive(lane, 1, 2, TARGET, SIZE + GRH - 1) && post(lane, 0, &wr) && sent(lane, 0, 1))
        await(lane, 1, (struct want){.id = 2, .status = IBV_WC_LOC_LEN_ERR, .opcode = IBV_WC_RECV});
    fail_lane(lane);
    connect_lane(lane);
    finish();
}

static bool join(struct lane *lane, int end, const union ibv_gid *group, uint16_t lid, bool in)
{
    struct ibv_qp *qp = lane->end[end].qp;
    int result = in ? ibv_attach_mcast(qp, group, lid) : ibv_detach_mcast(qp, group, lid);

    return EXPECT(!result, "%s: %s", in ? "attach_mcast" : "detach_mcast", strerror(result));
}

static void check_groups(struct device *device)
{
    enum { GROUP_LID = 0xc012, EVERY_MEMBER = 0xffffff };
    union ibv_gid group = {.raw = {0xff, 0x12, 0xa0, 0x1c, [12] = 0x12, 0x34, 0x56, 0x78}};
    struct ibv_ah_attr to_group = {
        .dlid = GROUP_LID,
        .port_num = options.port,
        .is_global = 1,
        .grh = {.dgid = group, .hop_limit = 1, .sgid_index = options.gid_index < 0 ? 0 : options.gid_index},
    };
    struct lane lane = {0};

    /* rxe's multicast packets leave the machine and are not looped back. */
    if (options.rxe) {
        absent("multicast", "rxe does not give a group's datagrams to members on the sender's device");
        return;
    }
    open_lane(&lane, device, UD, false);
    struct ibv_sge local = sge(&lane.end[0], SOURCE, SIZE);
    struct ibv_send_wr wr = request(&lane, 0, IBV_WR_SEND_WITH_IMM, 1, &local, 1);
    struct ibv_ah *ah = ibv_create_ah(device->pd, &to_group);
    bool had_gid = options.gid_index >= 0;
    int gid_index = options.gid_index;

    begin("ud: a datagram to a group comes to each member");
    if (!ah) {
        fail("create_ah: %s", strerror(errno));
        finish();
        close_lane(&lane);
        return;
    }
    wr.wr.ud.ah = ah;
    wr.wr.ud.remote_qpn = EVERY_MEMBER;
    wr.imm_data = htonl(77);
    /* Multicast datagrams always have a header. */
    if (!had_gid)
        options.gid_index = 0;
    struct want want = {.opcode = IBV_WC_RECV, .length = SIZE + GRH, .with_imm = true, .imm = 77};

    if (join(&lane, 1, &group, GROUP_LID, true)) {
        want.id = 2;
        if (receive(&lane, 1, 2, TARGET, SIZE + GRH) && receive(&lane, 0, 3, TARGET, SIZE + GRH) &&
            post(&lane, 0, &wr) && sent(&lane, 0, 1) && await(&lane, 1, want) && nothing(&lane.end[0])) {
            same("the group in the header", lane.end[1].memory + TARGET + 24, group.raw, 16);
            same("the datagram", lane.end[1].memory + TARGET + GRH, lane.end[0].memory + SOURCE, SIZE);
        }
    }
    finish();
    begin("ud: a datagram to a group that it is no more a member of");
    join(&lane, 1, &group, GROUP_LID, false);
    if (receive(&lane, 1, 2, TARGET, SIZE + GRH) && post(&lane, 0, &wr) && sent(&lane, 0, 1))
        nothing(&lane.end[1]);
    finish();
    options.gid_index = gid_index;
    ibv_destroy_ah(ah);
    close_lane(&lane);
}

void check_datagrams(struct device *device)
{
    struct lane lane = {0};

    open_lane(&lane, device, UD, false);
    check_header(&lane);
    check_keys(&lane);
    check_sizes(&lane);
    close_lane(&lane);
    check_groups(device);
}
