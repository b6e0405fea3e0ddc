/*
 * source_options.h
 *	  Options of the wrapper pfa_pems: names, kinds, limits, defaults.
 */
#ifndef PFA_SOURCE_OPTIONS_H
#define PFA_SOURCE_OPTIONS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "pems/address.h"
#include "pems/source.h"

/*
 * Refuse what the wrapper does not know or cannot use, in the words of CREATE
 * and ALTER.  catalog is the OID of the system catalog that the options belong
 * to.  A secret in a user mapping draws a NOTICE, and verify_tls off
 * a WARNING, if notice is set.
 */
extern void pfa_source_options_check(Oid catalog, List *options, bool notice);

/* What a server without options means. */
extern void pfa_source_options_default(PfaSource *source);

/*
 * Set the fields that the options stand for, with copies in the current memory
 * context.  Errors as in pfa_source_options_check: what is stored may be older
 * than the rules.  The options ending in _file of a user mapping have no field.
 */
extern void
pfa_source_options_apply(PfaSource *source, Oid catalog, List *options);

/* The value, not copied; NULL where the option is not set. */
extern char *pfa_source_option_get(List *options, const char *name);

/* Overwrite the values of all secret options; the list is of no use then. */
extern void pfa_source_options_wipe(List *options);

/* Parse a base_url by the wrapper's rules, or raise an error. */
extern void pfa_source_url_parse(const char *base_url, PfaUrl *url);

/*
 * Can this secret be sent as what the option stands for?  False with a reason
 * that does not hold the secret; for what is read from a file.
 */
extern bool pfa_source_secret_valid(const char *name, const char *value,
									const char **reason);

#endif /* PFA_SOURCE_OPTIONS_H */
