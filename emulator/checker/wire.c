/* The TCP connection to the other process. */
#include "check.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct addrinfo *resolve(const char *host, int port)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = host ? 0 : AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[16];

    snprintf(service, sizeof service, "%d", port);
    int result = getaddrinfo(host, service, &hints, &found);

    if (result)
        die("%s: %s", host ? host : "the server's address", gai_strerror(result));
    return found;
}

/* A peer that is silent for too long has failed. */
static int bounded(int fd)
{
    struct timeval limit = {.tv_sec = 2 * patience() / 1000};

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit))
        die("socket: %s", strerror(errno));
    return fd;
}

int serve(int port)
{
    struct addrinfo *here = resolve(NULL, port);
    int listener = socket(here->ai_family, here->ai_socktype, 0), on = 1;

    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        bind(listener, here->ai_addr, here->ai_addrlen) || listen(listener, 1))
        die("TCP port %d: %s", port, strerror(errno));
    freeaddrinfo(here);
    int fd = accept(listener, NULL, NULL);

    if (fd < 0)
        die("accept: %s", strerror(errno));
    close(listener);
    return bounded(fd);
}

int join_server(const char *host, int port)
{
    struct addrinfo *there = resolve(host, port);
    int fd = socket(there->ai_family, there->ai_socktype, 0);

    if (fd < 0 || connect(fd, there->ai_addr, there->ai_addrlen))
        die("%s, TCP port %d: %s", host, port, strerror(errno));
    freeaddrinfo(there);
    return bounded(fd);
}

void swap_bytes(int socket, const void *ours, void *theirs, size_t length)
{
    if (send(socket, ours, length, MSG_NOSIGNAL) != (ssize_t)length)
        die("to the other process: %s", strerror(errno));
    ssize_t got = recv(socket, theirs, length, MSG_WAITALL);

    if (got != (ssize_t)length)
        die("from the other process: %s", got < 0 ? strerror(errno) : "it has gone");
}
