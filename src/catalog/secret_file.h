/*
 * secret_file.h
 *	  Reading password_file and api_key_file.
 */
#ifndef PFA_SECRET_FILE_H
#define PFA_SECRET_FILE_H

#include "postgres.h"

/*
 * The secret in the file that option names, palloc'd: wipe it.  Raises an
 * error that says what to do where the file is none that a secret may be in.
 */
extern char *pfa_secret_file_read(const char *option, const char *path);

#endif							/* PFA_SECRET_FILE_H */
