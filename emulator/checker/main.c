/* The command line. */
#include "check.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options options = {.port = 1, .gid_index = -1, .first_seed = 1, .seeds = 1, .ops = 300};

static const char usage[] =
    "verbscheck [OPTIONS] [WHAT...]   judges an RDMA device through libibverbs\n"
    "\n"
    "WHAT is any of: opcodes faults queues windows datagrams random (all of them if none is named), or\n"
    "  script           print the script of a seed: what is posted, and what must come of it\n"
    "\n"
    "  --device NAME    the device; the first one if not given\n"
    "  --port N         its port (1)\n"
    "  --gid N          the GID index of addresses; without one, LIDs alone are used\n"
    "  --quirks rxe     expect what the rxe driver does where it departs from the specification\n"
    "  --require A,B    what the device must have: xrc, windows1, windows2, atomics, resize, multicast\n"
    "  --seeds N        random scripts to play (1), --first-seed S the seed of the first (1)\n"
    "  --ops N          requests in each (300)\n"
    "  --log FILE       write the completions of the random scripts there, in the scripts' own form\n"
    "  --server         play the random scripts as the one end, over TCP with\n"
    "  --client HOST    the other end; --tcp-port N for both (18520)\n"
    "  --flip           negative control: flip one byte of a payload, so that the run must fail\n"
    "  --break HOW      negative control, on mlx4 alone: misbehave as a driver; HOW is one of\n"
    "                   ";

int main(int count, char **arguments)
{
    enum { DEVICE = 256, PORT, GID, QUIRKS, REQUIRE, SEEDS, FIRST, OPS, LOG, SERVER, CLIENT, TCP, FLIP, BREAK };
    static const struct option known[] = {
        {"device", required_argument, NULL, DEVICE},   {"port", required_argument, NULL, PORT},
        {"gid", required_argument, NULL, GID},         {"quirks", required_argument, NULL, QUIRKS},
        {"require", required_argument, NULL, REQUIRE}, {"seeds", required_argument, NULL, SEEDS},
        {"first-seed", required_argument, NULL, FIRST},
        {"ops", required_argument, NULL, OPS},         {"log", required_argument, NULL, LOG},
        {"server", no_argument, NULL, SERVER},         {"client", required_argument, NULL, CLIENT},
        {"tcp-port", required_argument, NULL, TCP},    {"flip", no_argument, NULL, FLIP},
        {"break", required_argument, NULL, BREAK},     {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},              {0},
    };
    static const struct {
        const char *name;
        void (*run)(struct device *);
    } groups[] = {
        {"opcodes", check_opcodes}, {"faults", check_faults},       {"queues", check_queues},
        {"windows", check_windows}, {"datagrams", check_datagrams},
    };
    bool server = false;
    const char *host = NULL, *how = NULL;
    int tcp_port = 18520, option;

    while ((option = getopt_long(count, arguments, "hv", known, NULL)) != -1) {
        char *end = "";
        unsigned long number = optarg ? strtoul(optarg, &end, 0) : 0;

        switch (option) {
        case PORT: case GID: case SEEDS: case FIRST: case OPS: case TCP:
            if (*end || !*optarg || *optarg == '-' || number > UINT32_MAX)
                die("%s: not a number in range", optarg);
        }
        switch (option) {
        case DEVICE: options.device = optarg; break;
        case PORT: options.port = number; break;
        case GID: options.gid_index = number; break;
        case QUIRKS:
            if (strcmp(optarg, "rxe"))
                die("--quirks %s: only those of rxe are known", optarg);
            options.rxe = true;
            break;
        case REQUIRE: options.require = optarg; break;
        case SEEDS: options.seeds = number; break;
        case FIRST: options.first_seed = number; break;
        case OPS: options.ops = number; break;
        case LOG: options.log = optarg; break;
        case SERVER: server = true; break;
        case CLIENT: host = optarg; break;
        case TCP: tcp_port = number; break;
        case FLIP: options.flip = true; break;
        case BREAK: how = optarg; break;
        case 'v': options.verbose = true; break;
        case 'h': printf("%s%s\n  --verbose        name the checks that pass too\n", usage, damages); return 0;
        default: fprintf(stderr, "%s%s\n", usage, damages); return 2;
        }
    }
    struct device device;
    int named = count - optind;

    setvbuf(stdout, NULL, _IOLBF, 0);
    open_device(&device);
    if (named == 1 && !strcmp(arguments[optind], "script")) {
        print_script(&device, options.first_seed, options.ops);
        close_device(&device);
        return 0;
    }
    if (how) {
        damage(&device, how);
    } else if (server || host) {
        int fd = server ? serve(tcp_port) : join_server(host, tcp_port);

        check_random(&device, fd, server);
        close(fd);
    } else {
        unsigned known_names = 0;

        for (size_t at = 0; at <= COUNT(groups); at++) {
            const char *name = at < COUNT(groups) ? groups[at].name : "random";
            bool run = !named;

            for (int word = optind; word < count; word++) {
                run |= !strcmp(arguments[word], name);
                known_names += !strcmp(arguments[word], name);
            }
            if (!run)
                continue;
            if (at < COUNT(groups))
                groups[at].run(&device);
            else
                check_random(&device, -1, false);
        }
        if (known_names != (unsigned)named)
            die("there are the checks opcodes, faults, queues, windows, datagrams, random; see --help");
    }
    close_device(&device);
    return conclude();
}
