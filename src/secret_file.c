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

static void
check_file(int fd, const char *option, const char *path)
{
	struct stat st;
	mode_t refused;

	if (fstat(fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("file \"%s\" of option \"%s\" is not a regular file",
						path, option)));
	if (st.st_uid != geteuid() && st.st_uid != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg(
				 "file \"%s\" of option \"%s\" must be owned by the database user or root",
				 path, option),
			 errhint("Run chown on it, then chmod 600.")));

	/*
	 * As with ssl_key_file: a file of root's is of use only where the server
	 * is let in through the group.
	 */
	refused = st.st_uid == geteuid() ? S_IRWXG | S_IRWXO :
									   S_IWGRP | S_IXGRP | S_IRWXO;
	if ((st.st_mode & refused) != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("file \"%s\" of option \"%s\" can be accessed by others",
					path, option),
			 errhint(
				 "Run chmod 600 on it, or chmod 640 where it is owned by root.")));
	if (st.st_size > SECRET_FILE_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("file \"%s\" of option \"%s\" is larger than %d bytes",
						path, option, SECRET_FILE_SIZE)));
}

/* Read it all; a file that grows meanwhile is read up to the size limit. */
static int
read_bytes(int fd, const char *path, char *buffer)
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
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", path)));
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

char *
pfa_secret_file_read(const char *option, const char *path, PfaSecretCheck check)
{
	char buffer[SECRET_FILE_SIZE + 1];
	char secret_option[NAMEDATALEN];
	const char *reason = "must not hold a null byte";
	char *secret = NULL;
	int fd;
	int len;

	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\" of option \"%s\": %m", path,
						option)));
	check_file(fd, option, path);
	len = read_bytes(fd, path, buffer);
	CloseTransientFile(fd);

	/* "password_file" holds what "password" would */
	strlcpy(secret_option, option, sizeof(secret_option));
	secret_option[strlen(option) - strlen("_file")] = '\0';
	if ((int) strlen(buffer) == len &&
		(check == NULL || check(secret_option, buffer, &reason)))
		secret = pstrdup(buffer);
	explicit_bzero(buffer, sizeof(buffer));
	if (secret == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("file \"%s\" of option \"%s\" holds no usable secret",
						path, option),
				 errdetail("The secret %s.", reason)));
	return secret;
}
