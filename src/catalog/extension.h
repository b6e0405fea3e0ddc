/*
 * extension.h
 *	  What pg_extension says about us, read in one look.
 */
#ifndef PFA_EXTENSION_H
#define PFA_EXTENSION_H

#include "postgres.h"

typedef struct PfaExtension
{
	Oid oid;
	Oid schema;
	Oid owner;
} PfaExtension;

/* False where this database does not have the extension. */
extern bool pfa_extension_read(PfaExtension *extension);

#endif /* PFA_EXTENSION_H */
