/*
 * What many queue pairs on one completion queue cost a program of libibverbs:
 *
 *     scale make COUNT        create COUNT queue pairs and destroy them again
 *     scale poll COUNT GID    take completions out of a queue that COUNT queue pairs complete into, in random order
 *
 * GID is the index of the port's GID, or -1 for an InfiniBand port. Each line of the output is a name and a number.
 * examples/scale.rs is the same on bareverbs.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REQUESTS = 16, ROUND = 256, ROUNDS = 40, BATCH = 16, THOUSAND = 1000 };

static void die(const char *what)
{
    fprintf(stderr, "scale: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* Resident memory in KiB. */
static double resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long all, pages;

    if (!file || fscanf(file, "%ld %ld", &all, &pages) != 2)
        die("/proc/self/statm");
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024.0);
}

static struct ibv_qp *make_qp(struct ibv_pd *pd, struct ibv_cq *cq, uint32_t requests)
{
    struct ibv_qp_init_attr init = {
        .send_cq = cq,
        .recv_cq = cq,
        .cap = {.max_send_wr = requests, .max_recv_wr = REQUESTS, .max_send_sge = 1, .max_recv_sge = 1},
        .qp_type = IBV_QPT_RC,
    };
    struct ibv_qp *qp = ibv_create_qp(pd, &init);

    if (!qp)
        die("create_qp");
    return qp;
}

/* Microseconds for each of the first thousand, of the last thousand, and of all. */
static void report(const char *what, const double *at, long count)
{
    long part = count < THOUSAND ? count : THOUSAND;

    printf("%s_first %.2f\n", what, (at[part] - at[0]) / part * 1e6);
    printf("%s_last %.2f\n", what, (at[count] - at[count - part]) / part * 1e6);
    printf("%s_all %.2f\n", what, (at[count] - at[0]) / count * 1e6);
}

static void make(struct ibv_pd *pd, struct ibv_cq *cq, long count)
{
    struct ibv_qp **qps = calloc(count, sizeof *qps);
    double *at = calloc(count + 1, sizeof *at);
    double before;

    if (!qps || !at)
        die("calloc");
    memset(qps, 1, count * sizeof *qps);
    memset(at, 1, (count + 1) * sizeof *at);
    before = resident();
    at[0] = seconds();
    for (long n = 0; n < count; n++) {
        qps[n] = make_qp(pd, cq, REQUESTS);
        at[n + 1] = seconds();
    }
    printf("kib %.3f\n", (resident() - before) / count);
    report("create", at, count);
    at[0] = seconds();
    for (long n = 0; n < count; n++) {
        if (ibv_destroy_qp(qps[n]))
            die("destroy_qp");
        at[n + 1] = seconds();
    }
    report("destroy", at, count);
}

/* Connects a queue pair to itself. */
static void connect_to_itself(struct ibv_qp *qp, const struct ibv_port_attr *port, const union ibv_gid *gid, int index)
{
    struct ibv_qp_attr attr = {
        .qp_state = IBV_QPS_INIT, .port_num = 1, .qp_access_flags = IBV_ACCESS_REMOTE_WRITE};

    if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
        die("modify_qp to INIT");
    attr = (struct ibv_qp_attr){
        .qp_state = IBV_QPS_RTR,
        .path_mtu = IBV_MTU_1024,
        .dest_qp_num = qp->qp_num,
        .max_dest_rd_atomic = 1,
        .min_rnr_timer = 12,
        .ah_attr = {.dlid = port->lid, .port_num = 1},
    };
    if (index >= 0) {
        attr.ah_attr.is_global = 1;
        attr.ah_attr.grh = (struct ibv_global_route){.dgid = *gid, .sgid_index = index, .hop_limit = 1};
    }
    if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                     IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
        die("modify_qp to RTR");
    attr = (struct ibv_qp_attr){
        .qp_state = IBV_QPS_RTS, .timeout = 18, .retry_cnt = 7, .rnr_retry = 7, .max_rd_atomic = 1};
    if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                                     IBV_QP_MAX_QP_RD_ATOMIC))
        die("modify_qp to RTS");
}

static void write_one(struct ibv_qp *qp, struct ibv_mr *mr, uint64_t id)
{
    struct ibv_sge data = {.addr = (uintptr_t)mr->addr, .length = 8, .lkey = mr->lkey};
    struct ibv_send_wr wr = {
        .wr_id = id,
        .sg_list = &data,
        .num_sge = 1,
        .opcode = IBV_WR_RDMA_WRITE,
        .send_flags = IBV_SEND_SIGNALED,
        .wr.rdma = {.remote_addr = (uintptr_t)mr->addr + 64, .rkey = mr->rkey},
    };
    struct ibv_send_wr *bad;

    if (ibv_post_send(qp, &wr, &bad))
        die("post_send");
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Takes out what is there; returns how many completions. */
static int take(struct ibv_cq *cq)
{
    struct ibv_wc wcs[BATCH];
    int all = 0, got;

    while ((got = ibv_poll_cq(cq, BATCH, wcs)) > 0) {
        for (int n = 0; n < got; n++)
            if (wcs[n].status != IBV_WC_SUCCESS)
                die(ibv_wc_status_str(wcs[n].status));
        all += got;
    }
    if (got < 0)
        die("poll_cq");
    return all;
}

static int compare(const void *left, const void *right)
{
    double difference = *(const double *)left - *(const double *)right;

    return (difference > 0) - (difference < 0);
}

static void poll_all(struct ibv_context *context, struct ibv_pd *pd, struct ibv_cq *cq, long count, int index)
{
    static char memory[4096] __attribute__((aligned(4096)));
    struct ibv_mr *mr = ibv_reg_mr(pd, memory, sizeof memory, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    struct ibv_qp **qps = calloc(count, sizeof *qps);
    struct ibv_port_attr port;
    union ibv_gid gid = {0};
    double taken[ROUNDS];
    uint64_t state = 88172645463325252;
    long nap = 5000000;

    if (!mr || !qps || ibv_query_port(context, 1, &port) || (index >= 0 && ibv_query_gid(context, 1, index, &gid)))
        die("reg_mr, query_port");
    for (long n = 0; n < count; n++) {
        qps[n] = make_qp(pd, cq, count == 1 ? ROUND : REQUESTS);
        connect_to_itself(qps[n], &port, &gid, index);
    }
    for (int round = 0; round < ROUNDS;) {
        double begin;
        int got;

        for (int n = 0; n < ROUND; n++)
            write_one(qps[next_random(&state) % count], mr, n);
        nanosleep(&(struct timespec){.tv_nsec = nap}, NULL);
        begin = seconds();
        got = take(cq);
        taken[round] = seconds() - begin;
        if (got == ROUND) {
            round++;
            continue;
        }
        /* Not all of them had completed: that counts for nothing, and the next round waits longer. */
        if ((nap += nap / 4) > 900000000)
            die("no completions");
        while (got < ROUND)
            got += take(cq);
    }
    qsort(taken, ROUNDS, sizeof *taken, compare);
    printf("ns_per_completion %.2f\n", taken[ROUNDS / 4] / ROUND * 1e9);
}

int main(int words, char **word)
{
    const char *mode = words > 2 ? word[1] : "";
    long count = words > 2 ? strtol(word[2], NULL, 10) : 0;
    struct ibv_device **list = ibv_get_device_list(NULL);
    struct ibv_context *context = list && list[0] ? ibv_open_device(list[0]) : NULL;
    struct ibv_pd *pd = context ? ibv_alloc_pd(context) : NULL;
    struct ibv_cq *cq = context ? ibv_create_cq(context, 2 * ROUND, NULL, NULL, 0) : NULL;

    if (!pd || !cq)
        die("opening the first device");
    if (!strcmp(mode, "make") && count > 0)
        make(pd, cq, count);
    else if (!strcmp(mode, "poll") && count > 0 && words == 4)
        poll_all(context, pd, cq, count, atoi(word[3]));
    else {
        fprintf(stderr, "usage: scale make COUNT | scale poll COUNT GID\n");
        return 2;
    }
    return 0;
}
