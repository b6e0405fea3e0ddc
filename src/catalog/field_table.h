/*
 * field_table.h
 *	  pfa_field_mapping as users' changes need it: what may be written, of which
 *	  kind, and which costs PEMS delivers itself.
 */
#ifndef PFA_FIELD_TABLE_H
#define PFA_FIELD_TABLE_H

#include "postgres.h"

#include "catalog/jsonb_items.h"
#include "record/record.h"

typedef struct PfaEditField
{
	const char *key;
	uint32 key_len;
	PfaKind kind;
	bool writable; /* has a write_name */
	/* what a blank becomes in the mirror; a JSON null where it has no default */
	PfaJsonbItem blank;
} PfaEditField;

typedef struct PfaFieldTable
{
	int nfields;
	PfaEditField *fields; /* in the order of jsonb keys */
} PfaFieldTable;

/*
 * The organization's fields.  They stay as they are until the caller does
 * something in which the server looks for news: opens a table, reads one by
 * SPI, waits for a lock.
 */
extern const PfaFieldTable *pfa_field_table(const char *organization_id);

/* NULL where no row maps the key. */
extern const PfaEditField *
pfa_field_find(const PfaFieldTable *table, const char *key, uint32 len);

#endif /* PFA_FIELD_TABLE_H */
