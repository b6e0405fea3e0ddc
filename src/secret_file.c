/*
 * secret_file.c
 *	  Reading files that hold a secret.
 *
 * The file is read at each load, so that a rotated secret needs no command.
 * It may be reached through symbolic links, as orchestrators mount secrets so;
 * what is judged is the file that was opened, not the name, and without
 * blocking on a FIFO.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "secret_file.h"

#define SECRET_FILE_SIZE 4096

/* May a secret be in this file?  If not, say why at elevel. */
static bool
check_file(const struct stat *st, const char *option, const char *path,
		   int elevel)
{
	mode_t refused;

	if (!S_ISREG(st->st_mode))
	{
		ereport(elevel,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("file \"%s\" of option \"%s\" is not a regular file",
						path, option)));
		return false;
	}
	if (st->st_uid != geteuid() && st->st_uid != 0)
	{
		ereport(
			elevel,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg(
				 "file \"%s\" of option \"%s\" must be owned by the database user or root",
				 path, option),
			 errhint("Run chown on it, then chmod 600.")));
		return false;
	}

	/*
	 * As with ssl_key_file: a file of root's is of use only where the server
	 * is let in through the group.
	 */
	refused = st->st_uid == geteuid() ? S_IRWXG | S_IRWXO :
										S_IWGRP | S_IXGRP | S_IRWXO;
	if ((st->st_mode & refused) != 0)
	{
		ereport(
			elevel,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("file \"%s\" of option \"%s\" can be accessed by others",
					path, option),
			 errhint(
				 "Run chmod 600 on it, or chmod 640 where it is owned by root.")));
		return false;
	}
	if (st->st_size > SECRET_FILE_SIZE)
	{
		ereport(elevel,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("file \"%s\" of option \"%s\" is larger than %d bytes",
						path, option, SECRET_FILE_SIZE)));
		return false;
	}
	return true;
}

/*
 * Read it all; a file that grows meanwhile is read up to the size limit.
 * Returns the length, -1 with errno set where it cannot be read.
 */
static int
read_bytes(int fd, char *buffer)
{
	int len = 0;

	while (len < SECRET_FILE_SIZE)
	{
		ssize_t n = read(fd, buffer + len, SECRET_FILE_SIZE - len);

		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
		{
			int save_errno = errno;

			explicit_bzero(buffer, len);
			errno = save_errno;
			return -1;
		}
		if (n > 0)
			len += n;
	}
	/* the newline that editors and echo leave */
	if (len > 0 && buffer[len - 1] == '\n')
		len--;
	if (len > 0 && buffer[len - 1] == '\r')
		len--;
	buffer[len] = '\0';
	return len;
}

/*
 * The descriptor is closed before anything is judged or reported, so an error
 * leaves none behind, and a caller who wants none raised gets none.  Returns
 * the length, 0 for what is no regular file, -1 with errno set.
 */
static int
load_file(const char *path, struct stat *st, char *buffer)
{
	int fd = BasicOpenFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	int len;
	int save_errno;

	if (fd < 0)
		return -1;
	len = fstat(fd, st);
	if (len == 0 && S_ISREG(st->st_mode))
		len = read_bytes(fd, buffer);
	save_errno = errno;
	close(fd);
	errno = save_errno;
	return len;
}

/* The text's length, -1 where there is none to be had. */
static int
read_file(const char *option, const char *path, char *buffer, int elevel)
{
	struct stat st;
	int len = load_file(path, &st, buffer);

	if (len < 0)
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\" of option \"%s\": %m", path,
						option)));
	else if (!check_file(&st, option, path, elevel))
		len = -1;
	return len;
}

char *
pfa_secret_file_read(const char *option, const char *path, PfaSecretCheck check,
					 int elevel)
{
	char buffer[SECRET_FILE_SIZE + 1];
	char secret_option[NAMEDATALEN];
	const char *reason = "must not hold a null byte";
	char *secret = NULL;
	int len = read_file(option, path, buffer, elevel);

	if (len < 0)
	{
		explicit_bzero(buffer, sizeof(buffer));
		return NULL;
	}
	/* "password_file" holds what "password" would */
	strlcpy(secret_option, option, sizeof(secret_option));
	secret_option[strlen(option) - strlen("_file")] = '\0';
	if ((int) strlen(buffer) == len &&
		(check == NULL || check(secret_option, buffer, &reason)))
		secret = pstrdup(buffer);
	explicit_bzero(buffer, sizeof(buffer));
	if (secret == NULL)
		ereport(elevel,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("file \"%s\" of option \"%s\" holds no usable secret",
						path, option),
				 errdetail("The secret %s.", reason)));
	return secret;
}
