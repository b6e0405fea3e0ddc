/*
 * record_jsonb.h
 *	  A decoded record to the columns of its row in pfa_mirror.
 */
#ifndef PFA_RECORD_JSONB_H
#define PFA_RECORD_JSONB_H

#include "postgres.h"
#include "record/record.h"

typedef struct PfaRowBuilder PfaRowBuilder;

/* mapping outlives the builder, which belongs to ctx. */
extern PfaRowBuilder *
pfa_row_builder_create(MemoryContext ctx, const char *organization_id,
					   const PfaMapping *mapping);

/*
 * Fill all columns but version and synced_at.  What values point to stays
 * until pfa_row_builder_reset.
 */
extern void pfa_row_build(PfaRowBuilder *builder, const PfaRecord *record,
						  Datum *values, bool *nulls);
extern void pfa_row_builder_reset(PfaRowBuilder *builder);

/* Bytes built since the last reset. */
extern size_t pfa_row_builder_bytes(const PfaRowBuilder *builder);

/*
 * Why the record cannot be stored, or NULL: an id or an indexed text that no
 * B-tree entry can hold.  Palloc'd.
 */
extern const char *
pfa_row_refusal(const PfaRowBuilder *builder, const PfaRecord *record);

/* What content_hash holds for the record; never 0. */
extern int64 pfa_row_hash(const PfaRecord *record);

#endif /* PFA_RECORD_JSONB_H */
