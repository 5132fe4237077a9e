/*
 * Random scripts: what is posted, and what must come of it.
 *
 * A script is made batch by batch from a seed. generate.c knows what each request does to memory and how it completes;
 * play.c posts and compares. A script can also be printed, and then stands for itself: whoever plays its text with
 * another library needs no model of the operations. The README describes the text.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include "check.h"

enum { PARTS = 4, LANES = 7, BATCH_LINES = 400 };

enum verb {
    FILL,    /* bytes of an end's memory from a seed */
    RECV,
    SEND,
    READY,   /* both ends have posted what must be there before anything is sent */
    PAUSE,   /* a moment, so that messages find no receive */
    GO,      /* wait for the completions that follow */
    DONE,    /* a completion */
    CLEAR,   /* bytes whose content is not defined are set to zero */
    SUM,     /* a checksum of all of an end's memory */
    BREAK,   /* a lane's queue pairs to ERR; the completions that follow are flushed ones */
    CONNECT, /* and through RESET to RTS again */
};

enum target { NOTHING, REGION, WINDOW };

struct part {
    uint32_t offset, length;
    bool bad; /* its key is nobody's */
};

struct line {
    enum verb verb;
    int lane, end;
    uint32_t id;
    struct part parts[PARTS];
    int count;
    uint32_t offset, length; /* of FILL and CLEAR, of a window to bind */
    uint64_t seed;

    enum ibv_wr_opcode opcode;
    int flags;
    bool more; /* posted in one list with the next line */
    bool has_imm;
    uint32_t imm;
    enum target target;
    int64_t remote; /* in the peer's memory; past its end for some that must fail */
    bool bad_key;
    uint64_t compare_add, swap;

    bool events;         /* of GO: sleep until told */
    bool received;       /* of DONE */
    struct want want;    /* of DONE; `imm` of an invalidated key is filled in by the player */
    uint64_t sum;
};

struct batch {
    struct line lines[BATCH_LINES];
    int count;
    unsigned requests;
};

struct lane_kind {
    enum kind kind;
    bool srq;
};

struct queue {
    struct line posted[64]; /* receives that are still there */
    int first, count;
};

struct generator {
    uint64_t state;
    struct lane_kind lanes[LANES];
    int lane_count;
    bool atomics, windows;
    unsigned mtu, max_inline;
    unsigned char *memory[2]; /* what both ends' memory must be */
    uint32_t cursor[2];
    uint32_t next_id;
    struct queue queues[LANES][2];
    /* A window of type 2 that is bound: on which lane, over what of which end. */
    int window_lane, window_end;
    uint32_t window_offset, window_length, window_cursor;
    struct line *open[LANES][2]; /* the last request posted on a queue in this batch */
};

void start_script(struct generator *generator, struct device *device, uint64_t seed);
void end_script(struct generator *generator);
/* At most `most` requests. */
void next_batch(struct generator *generator, struct batch *batch, unsigned most);
/* One line of the script's text, without its end. */
void write_line(char *text, size_t size, const struct line *line);
/* Checksum of an end's memory: FNV-1a of 64 bits. */
uint64_t checksum(const unsigned char *bytes, size_t length);

#endif
