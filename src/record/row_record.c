/*
 * row_record.c
 *	  From the cells of a row to a record of the batch, or to a reject.
 *
 * A row of which the identity or a value cannot be used costs that row alone;
 * the reject tells which field it was, and what stood there.
 */
#include "record/row_parser.h"

#include "record/json_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The text of a field in this row, blank where it is null or missing.  False
 * with a reason where it has none.
 */
static bool
cell_text(PfaRowParser *row, int field, const char **text, size_t *len,
		  const char **reason)
{
	const PfaCell *cell;
	PfaJsonText fault;

	*text = "";
	*len = 0;
	if (field < 0)
		return true; /* a mapping without an identity */
	cell = &row->cells[field];
	if (cell->row != row->row || cell->kind == PFA_CELL_NULL)
		return true;
	*text = cell->text;
	*len = cell->len;
	if (cell->kind == PFA_CELL_NESTED)
	{
		*reason = "is not a single value";
		return false;
	}
	if (cell->kind == PFA_CELL_ESCAPED)
	{
		if (cell->len > row->scratch_size)
		{
			free(row->scratch);
			row->scratch_size = cell->len + 1024;
			row->scratch = malloc(row->scratch_size);
			if (row->scratch == NULL)
			{
				row->scratch_size = 0;
				*reason = NULL;
				return false;
			}
		}
		fault = pfa_json_unescape(cell->text, cell->len, row->scratch, len);
		*text = row->scratch;
		if (fault != PFA_JSON_TEXT_OK)
		{
			*reason = fault == PFA_JSON_TEXT_NUL ?
				"contains a NUL character" :
				"contains half of a surrogate pair";
			return false;
		}
	}
	if (!pfa_json_utf8_valid(*text, *len))
	{
		*reason = "is not valid UTF-8";
		return false;
	}
	return true;
}

static PfaRowStatus
reject(PfaRowParser *row, const PfaValue *id, const char *reason)
{
	if (!pfa_batch_reject(row->batch, id->ptr, id->len, reason))
		return PFA_ROW_OUT_OF_MEMORY;
	if (row->nrows <= row->mark)
		row->marked_rejects++;
	return PFA_ROW_COMPLETE;
}

/* field "pfs_f_rental": "abc" is not a number */
static PfaRowStatus
reject_value(PfaRowParser *row, const PfaValue *id, int field, const char *text,
			 size_t len, const char *reason)
{
	char message[512];
	char value[64];
	size_t cut = pfa_json_utf8_cut(text, len, 60);

	if (reason == NULL)
		return PFA_ROW_OUT_OF_MEMORY;
	pfa_json_printable(value, sizeof(value), text, cut);
	snprintf(message, sizeof(message), "field \"%.200s\": \"%s\"%s %s",
			 row->mapping->fields[field].alias, value, cut < len ? "..." : "",
			 reason);
	return reject(row, id, message);
}

/* Decode a field; false after the row was rejected (or *status tells). */
static bool
decode_field(PfaRowParser *row, int field, const PfaValue *id, PfaValue *value,
			 PfaRowStatus *status)
{
	const char *reason = NULL;
	const char *text;
	size_t len;

	if (cell_text(row, field, &text, &len, &reason) &&
		pfa_field_decode(&row->mapping->fields[field], text, len, row->batch,
						 value, &reason))
		return true;
	*status = reject_value(row, id, field, text, len, reason);
	return false;
}

/*
 * Ids must not descend.  Equal ones follow each other where organizations
 * whose codes begin alike have records of the same name.
 */
static void
note_id(PfaRowParser *row, const char *id, size_t len)
{
	size_t common = len < row->last_id_len ? len : row->last_id_len;
	int order;

	if (row->has_id)
	{
		order = memcmp(row->last_id, id, common);
		if (order == 0 && row->last_id_len == len)
			return;
		if (order > 0 || (order == 0 && row->last_id_len > len))
			row->ascending = false;
	}
	else
	{
		memcpy(row->first_id, id, len);
		row->first_id[len] = '\0';
		row->has_id = true;
	}
	row->last_id_is_ours = false;
	memcpy(row->last_id, id, len);
	row->last_id[len] = '\0';
	row->last_id_len = len;
}

/*
 * The text that identifies the row, as an arena value; isnull where there is
 * none, with the reason in that case.
 */
static PfaRowStatus
row_id(PfaRowParser *row, PfaValue *id, const char **reason)
{
	const char *text;
	size_t len;

	memset(id, 0, sizeof(*id));
	id->isnull = true;
	id->ptr = "";
	*reason = NULL;
	if (!cell_text(row, row->mapping->id_field, &text, &len, reason))
		return *reason == NULL ? PFA_ROW_OUT_OF_MEMORY : PFA_ROW_COMPLETE;
	/* whatever kind the mapping says, an identity is a text */
	if (!pfa_value_decode(PFA_KIND_TEXT, text, len, row->batch, id, reason))
	{
		id->isnull = true;
		id->ptr = "";
		id->len = 0;
		return *reason == NULL ? PFA_ROW_OUT_OF_MEMORY : PFA_ROW_COMPLETE;
	}
	if (id->isnull || id->len == 0)
	{
		id->isnull = true;
		id->ptr = "";
		id->len = 0;
		*reason = "is missing";
	}
	else if (id->len > PFA_ROW_MAX_ID)
	{
		id->isnull = true;
		id->len = (uint32_t) pfa_json_utf8_cut(id->ptr, id->len,
											   PFA_ROW_MAX_ID);
		*reason = "is longer than 255 bytes";
	}
	else
		note_id(row, id->ptr, id->len);
	return PFA_ROW_COMPLETE;
}

/* The row is our organization's, in which an id names one record. */
static void
note_ours(PfaRowParser *row, const PfaValue *id)
{
	if (id->isnull)
		return;
	if (row->last_id_is_ours)
		row->ascending = false;
	row->last_id_is_ours = true;
}

/* Is the row's organization known to be another one? */
static bool
is_foreign(const PfaRowParser *row, const PfaValue *organization)
{
	size_t len;

	if (row->organization == NULL)
		return false;
	len = strlen(row->organization);
	return organization->len != len || organization->ptr == NULL ||
		memcmp(organization->ptr, row->organization, len) != 0;
}

static bool
begins_like_ours(const PfaRowParser *row, const PfaValue *organization)
{
	size_t len = strlen(row->organization);

	return organization->len >= len &&
		memcmp(organization->ptr, row->organization, len) == 0;
}

static PfaRowStatus
add_record(PfaRowParser *row, const PfaValue *id, const PfaValue *organization)
{
	const PfaMapping *mapping = row->mapping;
	PfaRowStatus status = PFA_ROW_COMPLETE;
	PfaRecord *record;
	PfaValue *values;
	int i;

	values = pfa_batch_alloc(row->batch,
							 (size_t) mapping->nfields * sizeof(PfaValue));
	if (values == NULL)
		return PFA_ROW_OUT_OF_MEMORY;
	for (i = 0; i < mapping->nfields; i++)
	{
		if (i == mapping->organization_field)
			values[i] = *organization;
		else if (i == mapping->id_field &&
				 mapping->fields[i].kind == PFA_KIND_TEXT)
			values[i] = *id;
		else if (!decode_field(row, i, id, &values[i], &status))
			return status;
	}
	record = pfa_batch_add(row->batch);
	if (record == NULL)
		return PFA_ROW_OUT_OF_MEMORY;
	record->id = id->ptr;
	record->id_len = id->len;
	record->values = values;
	record->hash = pfa_record_hash(mapping, values);
	if (row->nrows <= row->mark)
		row->marked_records++;
	return PFA_ROW_COMPLETE;
}

/*
 * The layout must name the identity, and must not end before the row does.
 * A field list that came with the rows is believed though: asking again could
 * only bring the same one.
 */
static bool
layout_fits(const PfaRowParser *row)
{
	if (!row->positional)
		return true;
	return row->id_known && (!row->num_unknown || row->layout_is_fresh);
}

PfaRowStatus
pfa_row_commit(PfaRowParser *row)
{
	int organization_field = row->mapping->organization_field;
	PfaRowStatus status;
	PfaValue organization;
	PfaValue id;
	const char *reason;
	char message[512];

	if (!layout_fits(row))
		return PFA_ROW_NEEDS_LAYOUT;
	row->used_layout |= row->positional;
	row->nrows++;
	if (row->nrows > 1 && row->ncells != row->last_ncells)
		row->uneven = true;
	row->last_ncells = row->ncells;
	status = row_id(row, &id, &reason);
	if (status != PFA_ROW_COMPLETE)
		return status;

	/* another organization's row is none of our rejects */
	memset(&organization, 0, sizeof(organization));
	organization.isnull = true;
	if (organization_field >= 0)
	{
		if (!decode_field(row, organization_field, &id, &organization, &status))
		{
			note_ours(row, &id);
			return status;
		}

		/*
		 * A row that does not tell whose it is must not pass silently: left
		 * out, it would look as if it had vanished.
		 */
		if (organization.isnull && reason == NULL && row->organization != NULL)
		{
			note_ours(row, &id);
			snprintf(message, sizeof(message), "field \"%.200s\" is missing",
					 row->mapping->fields[organization_field].alias);
			return reject(row, &id, message);
		}
		if (!organization.isnull && is_foreign(row, &organization))
		{
			/*
			 * PEMS was asked for codes that begin with ours.  Another one
			 * may be a value that stood elsewhere when the list was read.
			 */
			if (row->positional && !row->layout_is_fresh &&
				!begins_like_ours(row, &organization))
				return PFA_ROW_NEEDS_LAYOUT;
			row->nforeign++;
			return PFA_ROW_COMPLETE;
		}
	}
	note_ours(row, &id);
	if (reason != NULL)
	{
		snprintf(message, sizeof(message), "field \"%.200s\" %s",
				 row->mapping->id_field < 0 ?
					 "pfaId" :
					 row->mapping->fields[row->mapping->id_field].alias,
				 reason);
		return reject(row, &id, message);
	}
	return add_record(row, &id, &organization);
}

PfaRowStatus
pfa_row_reject_oversized(PfaRowParser *row)
{
	int organization_field = row->mapping->organization_field;
	PfaRowStatus status;
	PfaValue organization;
	PfaValue id;
	const char *reason;
	const char *text;
	size_t len;
	char message[128];

	if (!layout_fits(row))
		return PFA_ROW_NEEDS_LAYOUT;
	row->used_layout |= row->positional;
	row->nrows++;
	status = row_id(row, &id, &reason);
	if (status != PFA_ROW_COMPLETE)
		return status;
	if (organization_field >= 0 &&
		cell_text(row, organization_field, &text, &len, &reason) && len > 0 &&
		pfa_field_decode(&row->mapping->fields[organization_field], text, len,
						 row->batch, &organization, &reason) &&
		!organization.isnull && is_foreign(row, &organization))
	{
		row->nforeign++;
		return PFA_ROW_COMPLETE;
	}
	note_ours(row, &id);
	snprintf(message, sizeof(message), "record is larger than %zu bytes",
			 row->limits->max_record_bytes);
	return reject(row, &id, message);
}
