/* Completions that arrive while a script is played, in the order of each queue. */
#include "play.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Takes the completions of a lane's queue. */
static bool take_arrivals(struct player *player, int lane, int end)
{
    struct ibv_wc wcs[16];

    for (;;) {
        memset(wcs, 0, sizeof wcs);
        int got = ibv_poll_cq(player->lanes[lane].end[end].cq, COUNT(wcs), wcs);

        if (got < 0)
            return fail("poll_cq: %d", got);
        for (int at = 0; at < got; at++) {
            uint64_t id = wcs[at].wr_id;

            if (id / 32 >= player->ids)
                return fail("a completion of a request that nobody has posted: %" PRIu64, id);
            bool received = player->is_receive[id / 32] >> id % 32 & 1;
            struct arrivals *arrivals = &player->arrivals[lane][end][received];

            if (arrivals->count == ARRIVALS)
                return fail("%d completions that nothing asked for", ARRIVALS);
            arrivals->wcs[(arrivals->first + arrivals->count++) % ARRIVALS] = wcs[at];
        }
        if (got < (int)COUNT(wcs))
            return true;
    }
}

bool next_arrival(struct player *player, const struct line *line, struct ibv_wc *wc)
{
    struct arrivals *arrivals = &player->arrivals[line->lane][line->end][line->received];
    struct end *end = &player->lanes[line->lane].end[line->end];
    uint64_t limit = now_ms() + patience();

    while (!arrivals->count) {
        if (player->events && ibv_req_notify_cq(end->cq, 0))
            return fail("req_notify_cq: %s", strerror(errno));
        if (!take_arrivals(player, line->lane, line->end))
            return false;
        if (arrivals->count)
            break;
        if (player->events && !await_notice(end))
            return fail("it was to tell of request %u: %s", line->id, status_name(line->want.status));
        if (now_ms() > limit)
            return fail("expected request %u: %s %s, seen nothing in time", line->id, status_name(line->want.status),
                        line->want.status ? "" : opcode_name(line->want.opcode));
    }
    *wc = arrivals->wcs[arrivals->first];
    arrivals->first = (arrivals->first + 1) % ARRIVALS;
    arrivals->count--;
    return true;
}

/* The log describes what was seen in the same words as what was expected. */
void log_seen(struct player *player, const struct line *line, const struct ibv_wc *wc)
{
    struct line seen = *line;
    char text[256];

    if (!player->log)
        return;
    seen.id = wc->wr_id;
    seen.want = (struct want){
        .status = wc->status,
        .opcode = wc->opcode,
        .length = wc->byte_len,
        .with_imm = line->received && wc->wc_flags & IBV_WC_WITH_IMM,
        .with_inv = line->received && wc->wc_flags & IBV_WC_WITH_INV,
        .imm = ntohl(wc->imm_data),
    };
    write_line(text, sizeof text, &seen);
    fprintf(player->log, "%s\n", text);
}

/* There must be no completion that the batch does not expect. */
bool nothing_left(struct player *player)
{
    for (int lane = 0; lane < player->lane_count; lane++)
        for (int end = 0; end < 2; end++) {
            if (!player->mine[end])
                continue;
            if (!take_arrivals(player, lane, end))
                return false;
            for (int received = 0; received < 2; received++) {
                struct arrivals *arrivals = &player->arrivals[lane][end][received];

                if (arrivals->count)
                    return fail("%s end %c: seen request %" PRIu64 ": %s, which was not to complete",
                                lane_name(&player->lanes[lane]), 'a' + end, arrivals->wcs[arrivals->first].wr_id,
                                status_name(arrivals->wcs[arrivals->first].status));
            }
        }
    return true;
}
