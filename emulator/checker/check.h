/*
 * verbscheck: judges an RDMA device through libibverbs.
 *
 * Structure: lane.c creates pairs of connected queues, post.c posts and waits; the checks are in opcodes.c, faults.c,
 * queues.c, windows.c and datagrams.c; generate.c creates random scripts with their expected results, play.c plays
 * them; damage.c misbehaves on purpose.
 */
#ifndef CHECK_H
#define CHECK_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/*
 * How long a completion or an event may take, in milliseconds: far more than any device needs, for emulated guests. A
 * device that has stood still a few times gets less.
 */
unsigned patience(void);
/* How long nothing must come where nothing may come. */
enum { QUIET = 30 };

/* Bytes of a global routing header, which a datagram's receiver finds before the data. */
enum { GRH = 40 };

/* ---- report.c: what was checked and what came of it ---- */

/* Starts a check. */
void begin(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says what is wrong with the check; always false. */
bool fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the check that was started; true if nothing was wrong with it. */
bool finish(void);
/* Counts a check that this device has nothing to offer for. */
void absent(const char *what, const char *why);
/* Ends the program: something that every check needs cannot be had. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* The last line; the exit code. */
int conclude(void);

#define EXPECT(condition, ...) ((condition) ? true : fail(__VA_ARGS__))

struct options {
    const char *device;
    int port;
    int gid_index; /* -1: none, as InfiniBand within a subnet has it */
    bool rxe;      /* judge by what rxe does where it departs from the specification */
    bool flip;     /* negative control: one byte of a payload is flipped behind the device's back */
    const char *require;
    uint64_t first_seed;
    unsigned seeds, ops;
    const char *log;
    bool verbose;
};
extern struct options options;

/* ---- device.c ---- */

struct device {
    struct ibv_context *context;
    struct ibv_device_attr attr;
    struct ibv_port_attr port;
    union ibv_gid gid;
    struct ibv_pd *pd;
    struct ibv_xrcd *xrcd; /* NULL where the device has no XRC */
    bool windows1, windows2;
    unsigned max_inline;
};

void open_device(struct device *device);
void close_device(struct device *device);
/* Takes all async events there are; counts those of a kind. */
unsigned drain_events(struct device *device, enum ibv_event_type kind);
/* Waits for an async event of a kind; others that come meanwhile are dropped. */
bool await_event(struct device *device, enum ibv_event_type kind);

/* ---- lane.c: two connected ends ---- */

enum kind { RC, UC, UD, XRC };

/* What an end's peer has to know of it. */
struct address {
    uint32_t sender, receiver; /* queue pair numbers; the same but for XRC */
    uint32_t psn;
    uint32_t srqn;
    uint32_t rkey;
    uint64_t base;
    uint32_t lid;
    union ibv_gid gid;
};

struct end {
    struct ibv_qp *qp;       /* sends */
    struct ibv_qp *receiver; /* receives; the same but for XRC */
    struct ibv_srq *srq;
    struct ibv_cq *cq; /* of both directions */
    struct ibv_comp_channel *channel;
    struct ibv_mr *mr;
    unsigned char *memory;
    struct ibv_ah *ah; /* to the peer, for UD */
    struct address address;
};

struct lane {
    struct device *device;
    enum kind kind;
    bool srq;
    struct end end[2];
    bool mine[2]; /* which ends are in this process */
    /* For connections, and settable before connect_lane(). */
    int access;
    uint8_t mtu, rnr_retry, retry_cnt, timeout, min_rnr_timer;
    uint32_t depth, sges, max_inline;
};

enum { MEMORY = 1 << 18, QKEY = 0x1234567 };

/* Sets what the makers of a lane may change. */
void plan_lane(struct lane *lane, struct device *device, enum kind kind, bool srq);
/* Makes the queues of this process's ends; `memory` of MEMORY bytes for each end, registered by lane. */
void make_lane(struct lane *lane, unsigned char *memory[2]);
/* Moves both ends from wherever they are through RESET to RTS; every address must be known. */
void connect_lane(struct lane *lane);
void connect_end(struct lane *lane, int end);
/* Moves this process's ends to ERR. */
void fail_lane(struct lane *lane);
void free_lane(struct lane *lane);
/* A planned, made and connected lane with memory of its own, for checks in one process. */
void open_lane(struct lane *lane, struct device *device, enum kind kind, bool srq);
void close_lane(struct lane *lane);
const char *lane_name(const struct lane *lane);
/* The path MTU in bytes. */
unsigned mtu_bytes(const struct lane *lane);
int to_state(struct ibv_qp *qp, enum ibv_qp_state state);
enum ibv_qp_state state_of(struct ibv_qp *qp);

/* ---- post.c ---- */

/* An element of an end's own memory. */
struct ibv_sge sge(const struct end *end, size_t offset, size_t length);
/* A signaled request of the lane's end to its peer; for RDMA, `offset` in the peer's memory. */
struct ibv_send_wr request(struct lane *lane, int end, enum ibv_wr_opcode opcode, uint64_t id, struct ibv_sge *sges,
                           int count);
void aim(struct ibv_send_wr *wr, const struct lane *lane, int end, size_t offset);
bool post(struct lane *lane, int end, struct ibv_send_wr *wr);
bool post_receive(struct lane *lane, int end, uint64_t id, struct ibv_sge *sges, int count);
/* Posts a receive of one element. */
bool receive(struct lane *lane, int end, uint64_t id, size_t offset, size_t length);

/* What a completion must be; receives are told from sends by RECEIVED. */
struct want {
    uint64_t id;
    enum ibv_wc_status status;
    uint32_t also; /* other statuses that are right too: bits */
    uint32_t rxe;  /* and those that rxe gives instead, by kernel */
    enum ibv_wc_opcode opcode;
    uint32_t length;
    bool with_imm, with_inv;
    uint32_t imm; /* as in the request, in the host's order; or the invalidated key */
};

/* Polls until `count` completions have come or patience() is over; false with a failure reported. */
bool collect(struct end *end, struct ibv_wc *wcs, int count);
/* Polls the next completion and compares it. */
bool await(struct lane *lane, int end, struct want want);
/* Compares a completion that has come. */
bool compare(struct lane *lane, int end, const struct ibv_wc *wc, struct want want);
/* Nothing may have come, now or a moment later. */
bool nothing(struct end *end);
/* Waits until the end's channel tells of its queue, which it acknowledges. */
bool await_notice(struct end *end);
bool no_notice(struct end *end);

/* Bytes that depend on where they are and on a seed, so that no shift and no mix-up goes unseen. */
void fill(unsigned char *bytes, size_t length, uint64_t seed);
/* Elements of together `length` bytes from `offset`, with gaps between them, the second empty; the room they take. */
size_t spread(const struct end *end, struct ibv_sge *sges, int count, size_t offset, size_t length);
/* The bytes of elements, in `memory` that stands for the end's own; how many. */
size_t gather(const struct end *end, unsigned char *memory, const struct ibv_sge *sges, int count,
              unsigned char *bytes);
void scatter(const struct end *end, unsigned char *memory, const struct ibv_sge *sges, int count, unsigned char *bytes,
             size_t length);
/* Compares bytes; a difference is reported with the first place. */
bool same(const char *what, const unsigned char *seen, const unsigned char *expected, size_t length);
/* Flips a byte once, if the options want a byte flipped. */
void maybe_flip(unsigned char *byte);
/* What the memory of a lane's ends must be; taken before something moves, compared after. */
struct shadow {
    unsigned char *memory[2];
};
void make_shadow(struct shadow *shadow);
void free_shadow(struct shadow *shadow);
/* Fills both ends' memory anew and takes it. */
void refresh(struct lane *lane, struct shadow *shadow);
/* Compares every byte of both ends. */
bool as_expected(struct lane *lane, struct shadow *shadow);

void pause_ms(unsigned milliseconds);
uint64_t now_ms(void);
/* A status as a bit. */
#define BIT_OF(status) (1u << (status))

const char *status_name(enum ibv_wc_status status);
const char *opcode_name(enum ibv_wc_opcode opcode);

/* ---- the checks ---- */

void check_opcodes(struct device *device);
void check_faults(struct device *device);
void check_queues(struct device *device);
void check_windows(struct device *device);
void check_datagrams(struct device *device);

/* ---- random.c ---- */

/* Plays the seeds; both ends here, or one of them over the connected socket. */
void check_random(struct device *device, int socket, bool server);
/* Prints the script of a seed. */
void print_script(struct device *device, uint64_t seed, unsigned ops);

/* ---- wire.c: the other process, where there is one ---- */

int serve(int port);
int join_server(const char *host, int port);
/* Sends as many bytes as it receives: both sides leave when both have come. */
void swap_bytes(int socket, const void *ours, void *theirs, size_t length);

/* ---- damage.c ---- */

/* Misbehaves in a named way on mlx4; the check around it must fail. */
void damage(struct device *device, const char *how);
extern const char *const damages;

#endif
