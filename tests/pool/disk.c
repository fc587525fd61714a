/* Preloaded into a pool: its disk takes nothing for as long as the file is there that MILLRACE_TEST_STALL names. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void stall(void)
{
    const char *name = getenv("MILLRACE_TEST_STALL");
    const struct timespec while_it_lasts = {.tv_nsec = 10 * 1000 * 1000};
    while (name && !access(name, F_OK))
        nanosleep(&while_it_lasts, NULL);
}

int fsync(int fd)
{
    stall();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    stall();
    return (int)syscall(SYS_fdatasync, fd);
}
