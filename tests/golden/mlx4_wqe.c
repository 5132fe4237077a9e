/*
 * Prints the requests that libmlx4 writes, for mlx4_wqe.txt. With rdma-core 44 built in ../rdma-core/build:
 *
 *   P=../rdma-core; cc -D_GNU_SOURCE -include $P/build/include/config.h -I$P/build/include -I$P/providers/mlx4 \
 *     tests/golden/mlx4_wqe.c $P/providers/mlx4/qp.c -o target/mlx4_wqe && target/mlx4_wqe > tests/golden/mlx4_wqe.txt
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlx4.h"

int mlx4_alloc_buf(struct mlx4_context *ctx, struct mlx4_buf *buf, size_t size, int page)
{
	return posix_memalign(&buf->buf, 4096, size) ? -1 : 0;
}

static char registers[4096], memory[4096];

static struct {
	struct mlx4_device device;
	struct mlx4_context ctx;
	struct mlx4_qp qp;
	struct mlx4_cq cq;
} all;

static void layout(const char *name, enum ibv_qp_type type, int wr, int sge, int inl)
{
	struct ibv_qp_init_attr_ex attr = { .qp_type = type };
	struct ibv_qp_cap cap = { .max_send_wr = wr, .max_send_sge = sge, .max_inline_data = inl, .max_recv_sge = 3 };
	struct mlx4_qp *qp = &all.qp;

	memset(qp, 0, sizeof(*qp));
	mlx4_calc_sq_wqe_size(&cap, type, qp, &attr);
	qp->sq_spare_wqes = (2048 >> qp->sq.wqe_shift) + 1;
	for (qp->sq.wqe_cnt = 1; qp->sq.wqe_cnt < wr + qp->sq_spare_wqes; qp->sq.wqe_cnt *= 2)
		;
	pthread_spin_init(&qp->sq.lock, 0);
	pthread_spin_init(&qp->rq.lock, 0);
	qp->rq.wqe_cnt = 4;
	mlx4_alloc_qp_buf(&all.ctx.ibv_ctx.context, 3, type, qp, NULL);
	qp->rq.max_post = 4;
	/* The kernel makes it a power of two. */
	qp->rq.max_gs = 4;
	mlx4_set_sq_sizes(qp, &cap, type);
	if (name)
		printf("layout %s %d %d %d = %d %d %d %u %u\n", name, wr, sge, inl, qp->sq.wqe_shift, qp->sq.wqe_cnt,
		       qp->sq_spare_wqes, cap.max_send_sge, cap.max_inline_data);
}

static void made(enum ibv_qp_type type)
{
	layout(NULL, type, 4, 6, 200);
	all.qp.verbs_qp.qp.qp_type = type;
	all.qp.verbs_qp.qp.context = &all.ctx.ibv_ctx.context;
	all.qp.verbs_qp.qp.send_cq = all.qp.verbs_qp.qp.recv_cq = &all.cq.verbs_cq.cq;
	all.qp.doorbell_qpn = htobe32(0x000241 << 8);
	all.qp.db = (__be32 *)memory;
	all.ctx.uar = registers;
	all.ctx.bf_page = memory + 1024;
	all.ctx.bf_offset = 0;
	mlx4_qp_init_sq_ownership(&all.qp);
}

static void hex(const char *kind, const char *name, void *from, int length)
{
	printf("%s %s = ", kind, name);
	for (int i = 0; i < length; ++i)
		printf("%02x", ((unsigned char *)from)[i]);
	printf("\n");
}

static struct ibv_sge sges[] = {
	{ .addr = 0x100000000001, .length = 8, .lkey = 0x0101 },
	{ .addr = 0x100000000002, .length = 0, .lkey = 0x0202 },
	{ .addr = 0xffffffffffffff00, .length = 0x300, .lkey = 0xfffffffe },
	{ .addr = 0x4444, .length = 4, .lkey = 4 },
	{ .addr = 0x5555, .length = 5, .lkey = 5 },
};

static char inlined[200];

static void sent(const char *name, enum ibv_qp_type type, struct ibv_send_wr wr, int num_sge, int bytes)
{
	struct ibv_sge data = { .addr = (uintptr_t)inlined, .length = bytes };
	struct ibv_send_wr *bad;

	made(type);
	all.ctx.bf_buf_size = 256;
	memset(all.ctx.bf_page, 0, 256);
	wr.wr_id = 0x1122334455667788;
	wr.sg_list = bytes ? &data : sges;
	wr.num_sge = bytes ? 1 : num_sge;
	if (bytes)
		wr.send_flags |= IBV_SEND_INLINE;
	if (mlx4_post_send(&all.qp.verbs_qp.qp, &wr, &bad))
		abort();
	hex("send", name, all.qp.buf.buf + all.qp.sq.offset, 1 << all.qp.sq.wqe_shift);
	hex("blueflame", name, all.ctx.bf_page, 256);
}

static void received(const char *name, int num_sge)
{
	struct ibv_recv_wr wr = { .sg_list = sges, .num_sge = num_sge }, *bad;

	made(IBV_QPT_RC);
	/* An element of no bytes ends the list for this code. */
	sges[1].length = 0x20;
	if (mlx4_post_recv(&all.qp.verbs_qp.qp, &wr, &bad))
		abort();
	sges[1].length = 0;
	hex("recv", name, all.qp.buf.buf + all.qp.rq.offset, 1 << all.qp.rq.wqe_shift);
	hex("record", name, all.qp.db, 4);
}

#define RDMA .wr.rdma = { .remote_addr = 0x7f00112233445568, .rkey = 0xaabbccdd }
#define ATOMIC(c, s) .wr.atomic = { .remote_addr = 0x7f00112233445568, .rkey = 0xaabbccdd, .compare_add = c, .swap = s }

int main(void)
{
	static const int sizes[][3] = {
		{ 1, 1, 0 }, { 16, 1, 64 }, { 100, 2, 28 }, { 100, 2, 29 }, { 7, 4, 200 }, { 1000, 32, 0 }, { 3, 0, 400 }, { 3, 1, 1000 },
	};
	struct mlx4_ah ah;
	struct ibv_mr mr = { .lkey = 0x0303 };
	struct ibv_mw mw = { .type = IBV_MW_TYPE_1, .rkey = 0x1000 };
	struct ibv_mw mw2 = { .type = IBV_MW_TYPE_2, .rkey = 0x2000 };

	all.device.page_size = 4096;
	pthread_spin_init(&all.ctx.bf_lock, 0);
	pthread_spin_init(&all.cq.lock, 0);
	all.ctx.ibv_ctx.context.device = &all.device.verbs_dev.device;
	for (int i = 0; i < 200; ++i)
		inlined[i] = i + 1;
	for (int i = 0; i < 8; ++i) {
		layout("rc", IBV_QPT_RC, sizes[i][0], sizes[i][1], sizes[i][2]);
		layout("uc", IBV_QPT_UC, sizes[i][0], sizes[i][1], sizes[i][2]);
		layout("ud", IBV_QPT_UD, sizes[i][0], sizes[i][1], sizes[i][2]);
		layout("xrc", IBV_QPT_XRC_SEND, sizes[i][0], sizes[i][1], sizes[i][2]);
	}
#define SENT(name, num_sge, bytes, ...) sent(name, IBV_QPT_RC, (struct ibv_send_wr){ __VA_ARGS__ }, num_sge, bytes)
	SENT("send", 1, 0, .opcode = IBV_WR_SEND);
	SENT("send-none", 0, 0, .opcode = IBV_WR_SEND);
	SENT("send-5", 5, 0, .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED | IBV_SEND_FENCE | IBV_SEND_SOLICITED);
	SENT("send-imm", 3, 0, .opcode = IBV_WR_SEND_WITH_IMM, .imm_data = htobe32(0xfefdfcfb));
	SENT("send-inv", 1, 0, .opcode = IBV_WR_SEND_WITH_INV, .invalidate_rkey = 0x0a0b0c0d);
	SENT("write", 3, 0, .opcode = IBV_WR_RDMA_WRITE, RDMA);
	SENT("write-none", 0, 0, .opcode = IBV_WR_RDMA_WRITE, RDMA);
	SENT("write-imm", 1, 0, .opcode = IBV_WR_RDMA_WRITE_WITH_IMM, .imm_data = htobe32(0x01020304), RDMA);
	SENT("read", 2, 0, .opcode = IBV_WR_RDMA_READ, RDMA);
	SENT("compare-swap", 1, 0, .opcode = IBV_WR_ATOMIC_CMP_AND_SWP, ATOMIC(0x1111, 0xfffffffffffffffe));
	SENT("fetch-add", 2, 0, .opcode = IBV_WR_ATOMIC_FETCH_AND_ADD, ATOMIC(0x8000000000000001, 0));
	SENT("local-inv", 0, 0, .opcode = IBV_WR_LOCAL_INV, .invalidate_rkey = 0x0a0b0c0d);
	SENT("bind-1", 0, 0, .opcode = IBV_WR_BIND_MW, .bind_mw = { .mw = &mw, .rkey = 0x1001, .bind_info = {
		.mr = &mr, .addr = 0x7000, .length = 0x800, .mw_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE } });
	SENT("bind-2", 0, 0, .opcode = IBV_WR_BIND_MW, .bind_mw = { .mw = &mw2, .rkey = 0x2001, .bind_info = {
		.mr = &mr, .addr = 0x7000, .length = 0x800, .mw_access_flags = IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_ZERO_BASED } });
	SENT("inline-1", 0, 1, .opcode = IBV_WR_SEND);
	SENT("inline-44", 0, 44, .opcode = IBV_WR_SEND);
	SENT("inline-45", 0, 45, .opcode = IBV_WR_SEND);
	SENT("inline-64", 0, 64, .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED);
	SENT("inline-200", 0, 200, .opcode = IBV_WR_SEND);
	SENT("inline-write-100", 0, 100, .opcode = IBV_WR_RDMA_WRITE, RDMA);
#define UD .wr.ud = { .ah = &ah.ibv_ah, .remote_qpn = 0x112233, .remote_qkey = 0x81223344 }
	memset(&ah, 0, sizeof(ah));
	for (int i = 0; i < sizeof(ah.av); ++i)
		((unsigned char *)&ah.av)[i] = 0xa0 + i;
	sent("datagram", IBV_QPT_UD, (struct ibv_send_wr){ .opcode = IBV_WR_SEND, UD }, 1, 0);
	sent("datagram-imm-3", IBV_QPT_UD, (struct ibv_send_wr){ .opcode = IBV_WR_SEND_WITH_IMM, .imm_data = htobe32(7), UD }, 3, 0);
	sent("datagram-inline", IBV_QPT_UD, (struct ibv_send_wr){ .opcode = IBV_WR_SEND, UD }, 0, 100);
	sent("xrc", IBV_QPT_XRC_SEND, (struct ibv_send_wr){ .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED,
		.qp_type.xrc.remote_srqn = 0x445566 }, 1, 0);
	received("recv", 1);
	received("recv-none", 0);
	received("recv-3", 3);
	return 0;
}
