/*
 * change.h
 *	  What a caller of pfa_draft asks for, checked against the field mapping.
 */
#ifndef PFA_CHANGE_H
#define PFA_CHANGE_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "catalog/field_table.h"
#include "catalog/jsonb_items.h"

#define PFA_MAX_CHANGES 10000

/* One element of modifications; values as the mirror would have them. */
typedef struct PfaChange
{
	char *pfa_id;
	uint32 id_len;
	char *change_reason; /* NULL: none given */
	PfaJsonbItem *items;
	int nitems;
	int position; /* in the call, from 0 */
} PfaChange;

/*
 * The changes in byte order of their ids.  An error names record, field and
 * what would do.
 */
extern PfaChange *
pfa_changes_parse(const PfaFieldTable *fields, Jsonb *modifications, int *n);

/*
 * An error where a period that the change is about ends before it starts, in
 * the record that results.
 */
extern void
pfa_change_check_periods(const char *pfa_id, const PfaJsonbItem *record,
						 int nrecord, const PfaJsonbItem *change, int nchange,
						 const char *hint);

#endif /* PFA_CHANGE_H */
