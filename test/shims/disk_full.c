/*
 * disk_full.c
 *	  Preloaded into a server, makes a directory a full disk.
 *
 * While the file $PFA_DISK.full exists, files below $PFA_DISK do not grow:
 * writes beyond their end fail with ENOSPC, as on a full file system.  A small
 * file system would be the real thing, but takes root to mount.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static bool
is_full(int fd, off_t end)
{
	const char *disk = getenv("PFA_DISK");
	char path[PATH_MAX];
	char name[64];
	struct stat st;
	ssize_t len;

	if (disk == NULL)
		return false;
	snprintf(path, sizeof(path), "%s.full", disk);
	if (access(path, F_OK) != 0)
		return false;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	len = readlink(name, path, sizeof(path) - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	return strncmp(path, disk, strlen(disk)) == 0 &&
		path[strlen(disk)] == '/' && fstat(fd, &st) == 0 && end > st.st_size;
}

static void *
original(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

ssize_t
pwrite(int fd, const void *buf, size_t count, off_t offset)
{
	static ssize_t (*next)(int, const void *, size_t, off_t);

	if (is_full(fd, offset + (off_t) count))
	{
		errno = ENOSPC;
		return -1;
	}
	if (next == NULL)
		next = original("pwrite");
	return next(fd, buf, count, offset);
}

ssize_t
pwrite64(int fd, const void *buf, size_t count, off_t offset)
{
	return pwrite(fd, buf, count, offset);
}

ssize_t
pwritev(int fd, const struct iovec *iov, int iovcnt, off_t offset)
{
	static ssize_t (*next)(int, const struct iovec *, int, off_t);
	size_t count = 0;

	for (int i = 0; i < iovcnt; i++)
		count += iov[i].iov_len;
	if (is_full(fd, offset + (off_t) count))
	{
		errno = ENOSPC;
		return -1;
	}
	if (next == NULL)
		next = original("pwritev");
	return next(fd, iov, iovcnt, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *iov, int iovcnt, off_t offset)
{
	return pwritev(fd, iov, iovcnt, offset);
}

int
posix_fallocate(int fd, off_t offset, off_t len)
{
	static int (*next)(int, off_t, off_t);

	if (is_full(fd, offset + len))
		return ENOSPC;
	if (next == NULL)
		next = original("posix_fallocate");
	return next(fd, offset, len);
}

int
posix_fallocate64(int fd, off_t offset, off_t len)
{
	return posix_fallocate(fd, offset, len);
}
