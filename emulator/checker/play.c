/* Playing random scripts: posting requests, comparing completions. */
#include "play.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Waits for the other process, and exchanges the keys of windows. */
static void meet(struct player *player)
{
    if (player->socket < 0)
        return;
    int end = player->mine[0] ? 0 : 1;

    swap_bytes(player->socket, &player->window_keys[end], &player->window_keys[!end], sizeof(uint32_t));
}

static void mark(struct player *player, const struct line *line)
{
    if (line->id / 32 >= player->ids) {
        uint32_t old = player->ids;

        player->ids = 2 * (line->id / 32 + 1);
        player->is_receive = realloc(player->is_receive, player->ids * sizeof(uint32_t));
        if (!player->is_receive)
            die("no memory");
        memset(player->is_receive + old, 0, (player->ids - old) * sizeof(uint32_t));
    }
    if (line->verb == RECV)
        player->is_receive[line->id / 32] |= 1u << line->id % 32;
}

static int elements(struct player *player, const struct line *line, struct ibv_sge *sges)
{
    const struct end *end = &player->lanes[line->lane].end[line->end];

    for (int at = 0; at < line->count; at++) {
        sges[at] = sge(end, line->parts[at].offset, line->parts[at].length);
        if (line->parts[at].bad)
            sges[at].lkey ^= 0x00ff00ff;
    }
    return line->count;
}

static bool play_receive(struct player *player, const struct line *line)
{
    struct ibv_sge sges[PARTS];
    int count = elements(player, line, sges);

    return post_receive(&player->lanes[line->lane], line->end, line->id, sges, count);
}

static struct ibv_send_wr make_request(struct player *player, const struct line *line, struct ibv_sge *sges)
{
    struct lane *lane = &player->lanes[line->lane];
    struct ibv_send_wr wr =
        request(lane, line->end, line->opcode, line->id, sges, elements(player, line, sges));

    wr.send_flags = line->flags;
    if (line->has_imm)
        wr.imm_data = htonl(line->imm);
    if (line->opcode == IBV_WR_BIND_MW) {
        struct end *end = &lane->end[line->end];

        wr.bind_mw.mw = player->windows[line->end];
        wr.bind_mw.rkey = ibv_inc_rkey(player->windows[line->end]->rkey);
        wr.bind_mw.bind_info = (struct ibv_mw_bind_info){
            .mr = end->mr,
            .addr = (uintptr_t)end->memory + line->offset,
            .length = line->length,
            .mw_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ,
        };
        player->window_keys[line->end] = wr.bind_mw.rkey;
    } else if (line->opcode == IBV_WR_LOCAL_INV) {
        wr.invalidate_rkey = player->window_keys[line->end];
    } else if (line->opcode == IBV_WR_SEND_WITH_INV) {
        wr.invalidate_rkey = player->window_keys[!line->end];
    }
    if (line->target != NOTHING && line->opcode != IBV_WR_LOCAL_INV) {
        aim(&wr, lane, line->end, line->remote);
        if (wr.opcode == IBV_WR_ATOMIC_FETCH_AND_ADD || wr.opcode == IBV_WR_ATOMIC_CMP_AND_SWP) {
            wr.wr.atomic.compare_add = line->compare_add;
            wr.wr.atomic.swap = line->swap;
        }
        if (line->target == WINDOW)
            wr.wr.rdma.rkey = player->window_keys[!line->end];
        /* The keys of a real request, for both kinds. */
        if (line->bad_key)
            wr.wr.rdma.rkey ^= 0x00ff00ff;
    }
    return wr;
}

/* Posts the list that begins with this line: the lines of its queue that are chained to it. */
static bool play_requests(struct player *player, const struct batch *batch, int first)
{
    struct ibv_send_wr wrs[64];
    struct ibv_sge sges[64][PARTS];
    const struct line *lines[64], *head = &batch->lines[first];
    int count = 0;

    for (int at = first; at < batch->count && count < 64; at++) {
        const struct line *line = &batch->lines[at];

        if (line->verb != SEND || line->lane != head->lane || line->end != head->end)
            continue;
        wrs[count] = make_request(player, line, sges[count]);
        if (count)
            wrs[count - 1].next = &wrs[count];
        lines[count++] = line;
        if (!line->more)
            break;
    }
    if (!post(&player->lanes[head->lane], head->end, wrs))
        return false;
    /* A window has its old key until the request for a new one is posted. */
    if (player->windows[head->end])
        player->windows[head->end]->rkey = player->window_keys[head->end];
    for (int at = 0; at < count; at++)
        for (int part = 0; lines[at]->flags & IBV_SEND_INLINE && part < lines[at]->count; part++)
            for (uint32_t byte = 0; byte < lines[at]->parts[part].length; byte++)
                player->memory[head->end][lines[at]->parts[part].offset + byte] ^= 0xff;
    return true;
}

/* Whether a line belongs to a list that an earlier line of its queue began. */
static bool chained(const struct batch *batch, int at)
{
    for (int before = at - 1; before >= 0; before--) {
        const struct line *line = &batch->lines[before];

        if (line->verb == SEND && line->lane == batch->lines[at].lane && line->end == batch->lines[at].end)
            return line->more;
    }
    return false;
}

static bool play_done(struct player *player, const struct line *line)
{
    struct want want = line->want;
    struct ibv_wc wc;

    if (!next_arrival(player, line, &wc))
        return false;
    log_seen(player, line, &wc);
    if (want.with_inv)
        want.imm = player->window_keys[line->end];
    return compare(&player->lanes[line->lane], line->end, &wc, want);
}

static bool play_sum(struct player *player, const struct generator *generator, const struct line *line)
{
    if (player->log) {
        struct line seen = *line;
        char text[64];

        seen.sum = checksum(player->memory[line->end], MEMORY);
        write_line(text, sizeof text, &seen);
        fprintf(player->log, "%s\n", text);
    }
    maybe_flip(player->memory[line->end] + 1000);
    return same(line->end ? "memory of end b" : "memory of end a", player->memory[line->end],
                generator->memory[line->end], MEMORY);
}

static bool play_line(struct player *player, const struct generator *generator, const struct batch *batch, int at)
{
    const struct line *line = &batch->lines[at];
    struct lane *lane = &player->lanes[line->lane];
    bool mine = player->mine[line->end];

    switch (line->verb) {
    case FILL:
        if (mine)
            fill(player->memory[line->end] + line->offset, line->length, line->seed);
        return true;
    case RECV:
        mark(player, line);
        return !mine || play_receive(player, line);
    case SEND:
        mark(player, line);
        return !mine || chained(batch, at) || play_requests(player, batch, at);
    case READY: meet(player); return true;
    case PAUSE: pause_ms(2); return true;
    case GO: player->events = line->events; return true;
    case DONE: return !mine || play_done(player, line);
    case CLEAR:
        if (mine)
            memset(player->memory[line->end] + line->offset, 0, line->length);
        return true;
    case SUM:
        if (line->end == 0)
            meet(player);
        return !mine || play_sum(player, generator, line);
    case BREAK:
        meet(player);
        player->events = false;
        fail_lane(lane);
        return true;
    case CONNECT:
        drain_events(player->device, IBV_EVENT_DEVICE_FATAL);
        connect_lane(lane);
        return true;
    }
    return false;
}

/* What each side has to know about the other's queues. */
static void tell_addresses(struct player *player)
{
    int end = player->mine[0] ? 0 : 1;

    for (int lane = 0; lane < player->lane_count && player->socket >= 0; lane++)
        swap_bytes(player->socket, &player->lanes[lane].end[end].address, &player->lanes[lane].end[!end].address,
                   sizeof(struct address));
}

static void set_up(struct player *player, const struct generator *generator)
{
    for (int end = 0; end < 2; end++) {
        player->memory[end] = aligned_alloc(4096, MEMORY);
        if (!player->memory[end])
            die("no memory");
        memcpy(player->memory[end], generator->memory[end], MEMORY);
        if (!generator->windows || !player->mine[end])
            continue;
        player->windows[end] = ibv_alloc_mw(player->device->pd, IBV_MW_TYPE_2);
        if (!player->windows[end])
            die("alloc_mw: %s", strerror(errno));
        player->window_keys[end] = player->windows[end]->rkey;
    }
    player->lane_count = generator->lane_count;
    for (int lane = 0; lane < player->lane_count; lane++) {
        plan_lane(&player->lanes[lane], player->device, generator->lanes[lane].kind, generator->lanes[lane].srq);
        memcpy(player->lanes[lane].mine, player->mine, sizeof player->mine);
        make_lane(&player->lanes[lane], player->memory);
    }
    tell_addresses(player);
    for (int lane = 0; lane < player->lane_count; lane++)
        connect_lane(&player->lanes[lane]);
}

static void take_down(struct player *player)
{
    /* Memory cannot be deregistered while windows are bound to it. */
    for (int end = 0; end < 2; end++)
        if (player->windows[end] && ibv_dealloc_mw(player->windows[end]))
            die("dealloc_mw: %s", strerror(errno));
    for (int lane = 0; lane < player->lane_count; lane++)
        free_lane(&player->lanes[lane]);
    for (int end = 0; end < 2; end++)
        free(player->memory[end]);
    free(player->is_receive);
}

/* The script around a line that went wrong. */
static void show(const struct batch *batch, int wrong)
{
    for (int at = 0; at < batch->count; at++) {
        char text[1024];

        write_line(text, sizeof text, &batch->lines[at]);
        printf("%s%s\n", at == wrong ? "> " : "  ", text);
    }
}

static bool play_script(struct player *player, uint64_t seed)
{
    static struct batch batch;
    struct generator generator;
    unsigned made = 0, number = 0;
    bool good = true;

    start_script(&generator, player->device, seed);
    set_up(player, &generator);
    while (made < options.ops && good) {
        next_batch(&generator, &batch, options.ops - made);
        made += batch.requests;
        number++;
        for (int at = 0; at < batch.count && good; at++) {
            good = play_line(player, &generator, &batch, at);
            if (!good) {
                printf("in batch %u of seed %" PRIu64 ":\n", number, seed);
                show(&batch, at);
            }
        }
        good = good && nothing_left(player);
    }
    /* The other end may still need answers from this one. */
    if (good)
        meet(player);
    take_down(player);
    end_script(&generator);
    return good;
}

void check_random(struct device *device, int socket, bool server)
{
    FILE *log = options.log ? fopen(options.log, "w") : NULL;

    if (options.log && !log)
        die("%s: %s", options.log, strerror(errno));
    for (unsigned at = 0; at < options.seeds; at++) {
        struct player player = {
            .device = device,
            .socket = socket,
            .mine = {socket < 0 || server, socket < 0 || !server},
            .log = log,
        };
        uint64_t seed = options.first_seed + at;

        begin("seed %" PRIu64 ": %u requests", seed, options.ops);
        if (log)
            fprintf(log, "# seed %" PRIu64 ", %u requests\n", seed, options.ops);
        play_script(&player, seed);
        /* A process that stops early leaves the other without a peer. */
        if (!finish() && socket >= 0)
            break;
    }
    if (log && fclose(log))
        die("%s: %s", options.log, strerror(errno));
}
