/* What the checks of faults share. */
#ifndef FAULTS_H
#define FAULTS_H

#include "check.h"

enum { SOURCE = 2048, TARGET = 65536, SIZE = 3000 };

/* What rxe has instead of a status, as bits. */
enum {
    PUSH = BIT_OF(IBV_WC_LOC_QP_OP_ERR),
    TAKE = BIT_OF(IBV_WC_LOC_QP_OP_ERR),
    SHORT = BIT_OF(IBV_WC_REM_OP_ERR),
    TOO_SHORT = BIT_OF(IBV_WC_LOC_QP_OP_ERR) | BIT_OF(IBV_WC_REM_INV_REQ_ERR),
};

bool works(struct lane *lane, struct shadow *shadow);
bool await_state(struct ibv_qp *qp, enum ibv_qp_state state);
bool renew_queues(struct lane *lane, uint64_t first, int receives);

/* flushes.c */
void check_empty(struct device *device, struct shadow *shadow);
void check_late(struct device *device, struct shadow *shadow, enum kind kind, bool srq);
void check_flush(struct device *device, struct shadow *shadow, enum kind kind, bool srq);
void check_unreliable(struct device *device, struct shadow *shadow);

#endif
