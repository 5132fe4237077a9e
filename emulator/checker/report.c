/* Counting and reporting checks. */
#include "check.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static char current[160];
static bool running;
static unsigned wrong;
static unsigned passed, failed, missing;

void begin(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(current, sizeof current, format, arguments);
    va_end(arguments);
    running = true;
    wrong = 0;
}

bool fail(const char *format, ...)
{
    va_list arguments;

    /* Later failures are mostly consequences of the first. */
    if (++wrong > 5)
        return false;
    printf("FAIL %s: ", running ? current : "between checks");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    if (!running)
        failed++;
    return false;
}

bool finish(void)
{
    running = false;
    if (wrong) {
        failed++;
        return false;
    }
    passed++;
    if (options.verbose)
        printf("ok   %s\n", current);
    return true;
}

void absent(const char *what, const char *why)
{
    bool required = false;
    const char *at = options.require;
    size_t length = strlen(what);

    while (at && *at) {
        size_t word = strcspn(at, ",");

        required |= word == length && !strncmp(at, what, length);
        at += word + (at[word] == ',');
    }
    if (required) {
        begin("%s", what);
        fail("required, but %s", why);
        finish();
        return;
    }
    /* Reported once, even if several checks find it. */
    static const char *said[16];

    for (size_t number = 0; number < missing; number++)
        if (!strcmp(said[number], what))
            return;
    if (missing == COUNT(said))
        die("more is absent than can be told");
    printf("ABSENT %s: %s\n", what, why);
    said[missing++] = what;
}

void die(const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    fprintf(stderr, "verbscheck: ");
    if (running)
        fprintf(stderr, "%s: ", current);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    exit(2);
}

unsigned patience(void)
{
    return failed < 3 ? 20000 : 2000;
}

int conclude(void)
{
    printf("%u passed, %u failed, %u absent\n", passed, failed, missing);
    /* A run without any check is a failure. */
    return failed || !passed;
}
