/*
 * secret_file.h
 *	  Reading files that hold a secret.
 */
#ifndef PFA_SECRET_FILE_H
#define PFA_SECRET_FILE_H

#include "postgres.h"

/* May value be that of an option?  If not, why. */
typedef bool (*PfaSecretCheck)(const char *option, const char *value,
							   const char **reason);

/*
 * The secret in the file that option, whose name ends in _file, names; palloc'd:
 * wipe it.  Where the file is none that a secret may be in, or its content does
 * not pass the check (NULL: any does), a report at elevel says what to do; below
 * ERROR, NULL is returned then.
 */
extern char *pfa_secret_file_read(const char *option, const char *path,
								  PfaSecretCheck check, int elevel);

#endif /* PFA_SECRET_FILE_H */
