/* Opening the device under test. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static struct ibv_context *open_named(const char *name)
{
    int count = 0;
    struct ibv_device **list = ibv_get_device_list(&count);
    struct ibv_context *context = NULL;

    if (!list)
        die("the list of devices: %s", strerror(errno));
    for (int at = 0; at < count && !context; at++) {
        if (name && strcmp(name, ibv_get_device_name(list[at])))
            continue;
        context = ibv_open_device(list[at]);
        if (!context)
            die("%s: cannot be opened: %s", ibv_get_device_name(list[at]), strerror(errno));
    }
    if (!context)
        die("%s: no such RDMA device (of %d)", name ? name : "any", count);
    ibv_free_device_list(list);
    return context;
}

/* The largest inline size of a queue pair, found by asking for less and less. */
static unsigned find_inline(struct device *device)
{
    struct ibv_cq *cq = ibv_create_cq(device->context, 4, NULL, NULL, 0);
    unsigned most = 0;

    if (!cq)
        die("create_cq: %s", strerror(errno));
    for (unsigned size = 512; size >= 16 && !most; size -= 4) {
        struct ibv_qp_init_attr attr = {
            .send_cq = cq,
            .recv_cq = cq,
            .cap = {.max_send_wr = 4, .max_recv_wr = 4, .max_send_sge = 4, .max_recv_sge = 1, .max_inline_data = size},
            .qp_type = IBV_QPT_RC,
        };
        struct ibv_qp *qp = ibv_create_qp(device->pd, &attr);

        if (qp) {
            most = size;
            ibv_destroy_qp(qp);
        }
    }
    ibv_destroy_cq(cq);
    return most;
}

void open_device(struct device *device)
{
    *device = (struct device){.context = open_named(options.device)};
    if (ibv_query_device(device->context, &device->attr))
        die("query_device: %s", strerror(errno));
    if (ibv_query_port(device->context, options.port, &device->port))
        die("port %d: %s", options.port, strerror(errno));
    if (device->port.state != IBV_PORT_ACTIVE)
        die("port %d is %s", options.port, ibv_port_state_str(device->port.state));
    if (device->port.link_layer == IBV_LINK_LAYER_ETHERNET && options.gid_index < 0)
        die("port %d is Ethernet: give a GID index (--gid)", options.port);
    if (ibv_query_gid(device->context, options.port, options.gid_index < 0 ? 0 : options.gid_index, &device->gid))
        die("GID %d: %s", options.gid_index, strerror(errno));
    device->pd = ibv_alloc_pd(device->context);
    if (!device->pd)
        die("alloc_pd: %s", strerror(errno));
    if (device->attr.device_cap_flags & IBV_DEVICE_XRC) {
        struct ibv_xrcd_init_attr attr = {
            .comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS,
            .fd = -1,
            .oflags = O_CREAT,
        };

        device->xrcd = ibv_open_xrcd(device->context, &attr);
        if (!device->xrcd)
            die("open_xrcd: %s, though the device says it has XRC", strerror(errno));
    }
    device->windows1 = device->attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW;
    device->windows2 =
        device->attr.device_cap_flags & (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B);
    device->max_inline = find_inline(device);
    int flags = fcntl(device->context->async_fd, F_GETFL);

    if (fcntl(device->context->async_fd, F_SETFL, flags | O_NONBLOCK))
        die("the async events' file: %s", strerror(errno));
}

void close_device(struct device *device)
{
    if (device->xrcd && ibv_close_xrcd(device->xrcd))
        die("close_xrcd: %s", strerror(errno));
    if (ibv_dealloc_pd(device->pd))
        die("dealloc_pd: something of a check is left in it: %s", strerror(errno));
    ibv_close_device(device->context);
}

unsigned drain_events(struct device *device, enum ibv_event_type kind)
{
    struct ibv_async_event event;
    unsigned count = 0;

    while (!ibv_get_async_event(device->context, &event)) {
        count += event.event_type == kind;
        ibv_ack_async_event(&event);
    }
    return count;
}

bool await_event(struct device *device, enum ibv_event_type kind)
{
    struct pollfd poll_for = {.fd = device->context->async_fd, .events = POLLIN};
    uint64_t end = now_ms() + patience();

    while (now_ms() < end) {
        if (drain_events(device, kind))
            return true;
        poll(&poll_for, 1, 100);
    }
    return fail("expected the event \"%s\", seen none in time", ibv_event_type_str(kind));
}
