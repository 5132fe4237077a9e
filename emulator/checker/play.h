/* What plays a script. */
#ifndef PLAY_H
#define PLAY_H

#include "script.h"

enum { ARRIVALS = 128 };

struct arrivals {
    struct ibv_wc wcs[ARRIVALS];
    int first, count;
};

struct player {
    struct device *device;
    struct lane lanes[LANES];
    int lane_count;
    unsigned char *memory[2];
    struct ibv_mw *windows[2]; /* one for each end */
    uint32_t window_keys[2];   /* as both ends know them */
    struct arrivals arrivals[LANES][2][2];
    uint32_t *is_receive; /* a bit for each request of the script */
    uint32_t ids;
    bool events;
    int socket; /* to the player of the other end; -1 if both are here */
    bool mine[2];
    FILE *log;
};

/* arrivals.c */
bool next_arrival(struct player *player, const struct line *line, struct ibv_wc *wc);
void log_seen(struct player *player, const struct line *line, const struct ibv_wc *wc);
bool nothing_left(struct player *player);

#endif
