/* Preloaded into a pool: its time of day is the system's and as many seconds more as the file says that MILLRACE_TEST_CLOCK
 * names. All other clocks stay as they are, as they do when somebody sets the time. The file has a decimal number and is never
 * made shorter: it is read where it is mapped. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *ahead;

__attribute__((constructor)) static void map(void)
{
    const char *name = getenv("MILLRACE_TEST_CLOCK");
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED)
        ahead = page;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += atoll(ahead);
    return failed;
}
