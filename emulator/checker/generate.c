/* Random scripts: batches of requests, in an order in which they can be played. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

void start_script(struct generator *g, struct device *device, uint64_t seed)
{
    *g = (struct generator){
        .state = seed,
        .atomics = device->attr.atomic_cap != IBV_ATOMIC_NONE,
        .windows = device->windows2,
        .mtu = 128u << (device->port.active_mtu < IBV_MTU_1024 ? device->port.active_mtu : IBV_MTU_1024),
        /* The same for every device that supports it, so that the scripts are the same. */
        .max_inline = device->max_inline < 128 ? device->max_inline : 128,
        .next_id = 1,
        .window_lane = -1,
    };
    static const struct lane_kind kinds[] = {{RC, false}, {RC, true}, {UC, false}, {UD, false}, {UD, true},
                                             {RC, false}, {XRC, true}};

    for (size_t at = 0; at < COUNT(kinds); at++)
        if (kinds[at].kind != XRC || device->xrcd)
            g->lanes[g->lane_count++] = kinds[at];
    for (int end = 0; end < 2; end++) {
        g->memory[end] = malloc(MEMORY);
        if (!g->memory[end])
            die("no memory");
        fill(g->memory[end], MEMORY, seed * 2 + end);
    }
}

void end_script(struct generator *g)
{
    free(g->memory[0]);
    free(g->memory[1]);
}

static void append(struct batch *batch, const struct batch *section)
{
    for (int at = 0; at < section->count; at++)
        *add(batch, section->lines[at].verb, 0, 0) = section->lines[at];
}

/* Returns the completions in the order of their queues, without those that were not requested. */
static void append_done(struct generator *g, struct batch *batch, const struct sections *s)
{
    for (int lane = 0; lane < g->lane_count; lane++)
        for (int end = 0; end < 2; end++)
            for (int received = 0; received < 2; received++)
                for (int at = 0; at < s->done.count; at++) {
                    const struct line *line = &s->done.lines[at];
                    bool asked = received || line->want.status != IBV_WC_SUCCESS;

                    if (line->lane != lane || line->end != end || line->received != received)
                        continue;
                    for (int request = 0; request < s->requests.count && !asked; request++)
                        asked = s->requests.lines[request].id == line->id &&
                                s->requests.lines[request].flags & IBV_SEND_SIGNALED;
                    if (asked)
                        *add(batch, DONE, lane, end) = *line;
                }
}

void next_batch(struct generator *g, struct batch *batch, unsigned most)
{
    static struct sections s;
    unsigned wanted = 1 + below(g, most < 14 ? most : 14);
    int broken = -1, breaker = below(g, 2);

    memset(&s, 0, sizeof s);
    memset(g->open, 0, sizeof g->open);
    batch->count = 0;
    g->cursor[0] = g->cursor[1] = 0;
    if (g->window_lane >= 0)
        g->window_cursor = 0;
    if (chance(g, 15)) {
        broken = below(g, g->lane_count);
        if (broken == g->window_lane)
            broken = -1;
    }
    for (unsigned tries = 0; s.requests.requests < wanted && tries < 3 * wanted; tries++) {
        int lane = below(g, g->lane_count), end = below(g, 2);

        /* rxe loses outstanding requests when one behind them fails. */
        if (!options.rxe || lane != broken)
            add_request(g, &s, lane, lane == broken ? breaker : end);
    }
    if (g->windows && broken < 0 && chance(g, 20))
        window_request(g, &s);
    if (broken >= 0) {
        settle(g, &s);
        fault(g, &s, broken, breaker);
        for (unsigned spares = below(g, 3); spares > 0; spares--)
            spare_receive(g, &s, broken, !breaker);
    }
    settle(g, &s);
    for (int lane = 0; lane < g->lane_count; lane++)
        for (int end = 0; end < 2; end++)
            if (g->open[lane][end])
                g->open[lane][end]->flags |= IBV_SEND_SIGNALED;

    append(batch, &s.early);
    add(batch, READY, 0, 0);
    append(batch, &s.requests);
    if (s.late.count) {
        add(batch, PAUSE, 0, 0);
        append(batch, &s.late);
    }
    add(batch, GO, 0, 0)->events = chance(g, 30);
    append_done(g, batch, &s);
    append(batch, &s.after);
    for (int end = 0; end < 2; end++)
        add(batch, SUM, 0, end)->sum = checksum(g->memory[end], MEMORY);
    if (broken >= 0)
        renew(g, batch, broken);
    batch->requests = s.requests.requests;
}

uint64_t checksum(const unsigned char *bytes, size_t length)
{
    uint64_t sum = 0xcbf29ce484222325;

    for (size_t at = 0; at < length; at++)
        sum = (sum ^ bytes[at]) * 0x100000001b3;
    return sum;
}
