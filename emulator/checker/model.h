/* What the files that make random scripts share. */
#ifndef MODEL_H
#define MODEL_H

#include "script.h"

/* Memory: for messages; for windows; for receives that outlive their batch. */
enum { MESSAGES = 160 << 10, WINDOWS = MESSAGES, WINDOWS_END = 192 << 10, SPARE = WINDOWS_END, SPARE_SIZE = 4096 };

/* What a batch is put together from. */
struct sections {
    struct batch early, requests, late, done, after;
    bool late_only[LANES][2];
};

/* ---- model.c: what requests do to memory, and how they complete ---- */

/* One below a limit. */
uint32_t below(struct generator *g, uint32_t limit);
/* True in so many of a hundred. */
bool chance(struct generator *g, unsigned percent);
/* A random number, the next of splitmix64. */
uint64_t draw(struct generator *g);
/* Adds an empty line. */
struct line *add(struct batch *batch, enum verb verb, int lane, int end);
/* Memory of an end that this batch does not use otherwise; -1 if there is none. */
int64_t room(struct generator *g, int end, uint32_t size, uint32_t align);
/* Elements that cover a range of memory, some of them empty. */
void split(struct generator *g, struct line *line, uint32_t offset, uint32_t size, int most);
/* The bytes of a line's elements. */
void gather_parts(struct generator *g, const struct line *line, unsigned char *bytes);
/* Puts bytes into a line's elements, from their byte `skip` on. */
void scatter_parts(struct generator *g, const struct line *line, const unsigned char *bytes, uint32_t skip,
                   uint32_t length);
/* Has an end's memory filled before anything is posted. */
void fill_with(struct generator *g, struct sections *s, int end, uint32_t offset, uint32_t length);
/* A completion of a posted line. */
struct line *done(struct batch *where, const struct line *posted, bool received,
                  enum ibv_wc_status status, enum ibv_wc_opcode opcode);
/* The receives of an end that no message has taken. */
struct queue *queue_of(struct generator *g, int lane, int end);
/* Posts a receive. */
struct line *add_receive(struct generator *g, struct sections *s, int lane, int end, bool late);
/* Puts a receive behind the others. */
void keep_receive(struct generator *g, const struct line *line);
/* Takes the first one. */
struct line take_receive(struct generator *g, int lane, int end);
/* Adds a receive for a message of `size` bytes; false if there is no room. */
bool receive_for(struct generator *g, struct sections *s, int lane, int end, uint32_t size, bool late);
/* A message arrives: its completion there, and its bytes. */
void deliver(struct generator *g, struct sections *s, const struct line *send, const unsigned char *bytes,
             uint32_t size);
/* Finishes a request: flags, its completion. */
void conclude_request(struct generator *g, struct sections *s, struct line *line, uint32_t size);

/* ---- requests.c: requests that succeed ---- */

/* Sends, and writes with or without imm; `source` is -1 for new bytes, else the data of an earlier read. */
void push_request(struct generator *g, struct sections *s, int lane, int end, enum ibv_wr_opcode opcode,
                  uint32_t size, int64_t source);
/* Some request of a lane's end. */
void add_request(struct generator *g, struct sections *s, int lane, int end);
/* Binds a window, or invalidates the bound one. */
void window_request(struct generator *g, struct sections *s);
/* A message behind an unreliable write shows that it has arrived. */
void settle(struct generator *g, struct sections *s);

/* ---- mishaps.c: requests that fail ---- */

/* A request that fails, what is flushed behind it, and setting up the lane again. */
void fault(struct generator *g, struct sections *s, int lane, int end);
/* A receive that no message of this batch takes. */
void spare_receive(struct generator *g, struct sections *s, int lane, int end);
/* Moves a lane to ERR and back; its own receives are flushed, a shared queue's stay. */
void renew(struct generator *g, struct batch *batch, int lane);

#endif
