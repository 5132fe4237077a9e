/* Random scripts as text. */
#include "script.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

struct writer {
    char *at;
    size_t left;
};

static void put(struct writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct writer *writer, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(writer->at, writer->left, format, arguments);

    va_end(arguments);
    if (length < 0 || (size_t)length >= writer->left)
        die("a line of the script is too long");
    writer->at += length;
    writer->left -= length;
}

static const char *request_name(enum ibv_wr_opcode opcode)
{
    switch (opcode) {
    case IBV_WR_SEND: return "send";
    case IBV_WR_SEND_WITH_IMM: return "send_with_imm";
    case IBV_WR_SEND_WITH_INV: return "send_with_inv";
    case IBV_WR_RDMA_WRITE: return "rdma_write";
    case IBV_WR_RDMA_WRITE_WITH_IMM: return "rdma_write_with_imm";
    case IBV_WR_RDMA_READ: return "rdma_read";
    case IBV_WR_ATOMIC_CMP_AND_SWP: return "compare_swap";
    case IBV_WR_ATOMIC_FETCH_AND_ADD: return "fetch_add";
    case IBV_WR_BIND_MW: return "bind_mw";
    case IBV_WR_LOCAL_INV: return "local_inv";
    default: return "unknown";
    }
}

static void put_parts(struct writer *writer, const struct line *line)
{
    for (int at = 0; at < line->count; at++)
        put(writer, " %u+%u%s", line->parts[at].offset, line->parts[at].length, line->parts[at].bad ? "!" : "");
}

static void put_request(struct writer *writer, const struct line *line)
{
    static const struct {
        int flag;
        const char *name;
    } flags[] = {{IBV_SEND_SIGNALED, "signaled"},
                 {IBV_SEND_SOLICITED, "solicited"},
                 {IBV_SEND_FENCE, "fence"},
                 {IBV_SEND_INLINE, "inline"}};

    put(writer, "send %d %c %u %s", line->lane, 'a' + line->end, line->id, request_name(line->opcode));
    for (size_t at = 0; at < COUNT(flags); at++)
        if (line->flags & flags[at].flag)
            put(writer, " %s", flags[at].name);
    if (line->more)
        put(writer, " more");
    if (line->has_imm)
        put(writer, " imm=0x%08x", line->imm);
    if (line->target == REGION)
        put(writer, " to=%s:%" PRId64, line->bad_key ? "nobody" : "memory", line->remote);
    if (line->target == WINDOW && line->opcode != IBV_WR_LOCAL_INV)
        put(writer, " to=window:%" PRId64, line->remote);
    if (line->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD)
        put(writer, " add=0x%016" PRIx64, line->compare_add);
    if (line->opcode == IBV_WR_ATOMIC_CMP_AND_SWP)
        put(writer, " compare=0x%016" PRIx64 " swap=0x%016" PRIx64, line->compare_add, line->swap);
    if (line->opcode == IBV_WR_BIND_MW)
        put(writer, " window=%u+%u", line->offset, line->length);
    put_parts(writer, line);
}

void write_line(char *text, size_t size, const struct line *line)
{
    struct writer writer = {text, size};
    const struct want *want = &line->want;
    int end = 'a' + line->end;

    switch (line->verb) {
    case FILL: put(&writer, "fill %c %u+%u 0x%016" PRIx64, end, line->offset, line->length, line->seed); break;
    case RECV:
        put(&writer, "recv %d %c %u", line->lane, end, line->id);
        put_parts(&writer, line);
        break;
    case SEND: put_request(&writer, line); break;
    case READY: put(&writer, "ready"); break;
    case PAUSE: put(&writer, "pause"); break;
    case GO: put(&writer, "go %s", line->events ? "events" : "poll"); break;
    case DONE:
        put(&writer, "done %d %c %s %u %s", line->lane, end, line->received ? "recv" : "send", line->id,
            status_name(want->status));
        if (want->status != IBV_WC_SUCCESS)
            break;
        put(&writer, " %s", opcode_name(want->opcode));
        if (line->received || want->opcode == IBV_WC_RDMA_READ || want->opcode == IBV_WC_FETCH_ADD ||
            want->opcode == IBV_WC_COMP_SWAP)
            put(&writer, " %u", want->length);
        if (want->with_imm)
            put(&writer, " imm=0x%08x", want->imm);
        if (want->with_inv)
            put(&writer, " inv");
        break;
    case CLEAR: put(&writer, "clear %c %u+%u", end, line->offset, line->length); break;
    case SUM: put(&writer, "sum %c 0x%016" PRIx64, end, line->sum); break;
    case BREAK: put(&writer, "break %d", line->lane); break;
    case CONNECT: put(&writer, "connect %d", line->lane); break;
    }
}

void print_script(struct device *device, uint64_t seed, unsigned ops)
{
    static const char *const kinds[] = {[RC] = "rc", [UC] = "uc", [UD] = "ud", [XRC] = "xrc"};
    static struct batch batch;
    struct generator generator;
    char text[1024];

    start_script(&generator, device, seed);
    printf("# verbscheck script 1, seed %" PRIu64 ", %u requests\n", seed, ops);
    for (int lane = 0; lane < generator.lane_count; lane++)
        printf("lane %d %s%s\n", lane, kinds[generator.lanes[lane].kind], generator.lanes[lane].srq ? " srq" : "");
    for (int end = 0; end < 2; end++)
        printf("fill %c 0+%d 0x%016" PRIx64 "\n", 'a' + end, MEMORY, seed * 2 + end);
    for (unsigned made = 0; made < ops; made += batch.requests) {
        next_batch(&generator, &batch, ops - made);
        for (int at = 0; at < batch.count; at++) {
            write_line(text, sizeof text, &batch.lines[at]);
            printf("%s\n", text);
        }
    }
    end_script(&generator);
}
