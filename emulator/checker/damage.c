/* Misbehaving as a driver of mlx4, by its direct verbs: what a device must notice. */
#include "check.h"

const char *const damages = "";

void damage(struct device *device, const char *how)
{
    (void)device;
    die("--break %s: not known", how);
}
