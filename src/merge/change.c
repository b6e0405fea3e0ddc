/*
 * change.c
 *	  What a caller of pfa_draft asks for, checked.
 *
 * Values are brought to the form in which a sync would store them, so that
 * "as before" can be told by comparing: a blank text is what the mapping makes
 * of blanks, usually null.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "catalog/mirror.h"
#include "merge/change.h"

/* Longest text of a column without an index, and longest number, in bytes. */
#define MAX_TEXT   10000
#define MAX_NUMBER 100
#define MAX_REASON 10000

/* ---- one value ---- */

static bool
is_blank(const PfaJsonbItem *item)
{
	if (item->type == JENTRY_ISNULL)
		return true;
	if (item->type != JENTRY_ISSTRING)
		return false;
	for (uint32 i = 0; i < item->len; i++)
	{
		if (strchr(" \t\n\r", item->value[i]) == NULL)
			return false;
	}
	return true;
}

static void
report_type(const char *pfa_id, const PfaEditField *field)
{
	static const char *const wanted[] =
		{[PFA_KIND_TEXT] = "a string",
		 [PFA_KIND_NUMBER] = "a number",
		 [PFA_KIND_DATE] = "a date, a string of the form \"YYYY-MM-DD\"",
		 [PFA_KIND_BOOLEAN] = "true or false"};

	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("record \"%s\": field \"%s\" has a value of the wrong type",
					pfa_id, field->key),
			 errdetail("It must be %s, or null for none.",
					   wanted[field->kind])));
}

static void
check_text(const char *pfa_id, const PfaEditField *field,
		   const PfaJsonbItem *item)
{
	const PfaMirrorColumn *column = pfa_mirror_column(field->key,
													  field->key_len);
	uint32 limit = MAX_TEXT;

	if (column != NULL &&
		(column->attno == PFA_MIRROR_CATEGORY ||
		 column->attno == PFA_MIRROR_SOURCE))
		limit = PFA_MIRROR_MAX_KEY;
	if (item->len > limit)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("record \"%s\": text of field \"%s\" is too long",
						pfa_id, field->key),
				 errdetail("It has %u bytes; at most %u can be stored.",
						   item->len, limit)));
}

static void
check_number(const char *pfa_id, const PfaEditField *field,
			 const PfaJsonbItem *item)
{
	char *text = DatumGetCString(
		DirectFunctionCall1(numeric_out, PointerGetDatum(item->value)));

	if (strlen(text) > MAX_NUMBER)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("record \"%s\": number of field \"%s\" is too long",
						pfa_id, field->key),
				 errdetail("Written out it has more than %d characters.",
						   MAX_NUMBER)));
}

static bool
fits_kind(PfaKind kind, const PfaJsonbItem *item)
{
	int32 days;

	switch (kind)
	{
		case PFA_KIND_TEXT:
			return item->type == JENTRY_ISSTRING;
		case PFA_KIND_NUMBER:
			return item->type == JENTRY_ISNUMERIC;
		case PFA_KIND_DATE:
			return item->type == JENTRY_ISSTRING &&
				pfa_mirror_parse_date(item->value, item->len, &days);
		case PFA_KIND_BOOLEAN:
			return item->type == JENTRY_ISBOOL_TRUE ||
				item->type == JENTRY_ISBOOL_FALSE;
	}
	return false;
}

/* Bring the value to the mirror's form. */
static void
check_value(const char *pfa_id, const PfaEditField *field, PfaJsonbItem *item)
{
	if (is_blank(item))
	{
		/* A copy, as the table may be read anew while the call goes on. */
		item->type = field->blank.type;
		item->len = field->blank.len;
		item->value = memcpy(palloc(Max(item->len, 1)), field->blank.value,
							 item->len);
		return;
	}
	if (!fits_kind(field->kind, item))
		report_type(pfa_id, field);
	if (field->kind == PFA_KIND_TEXT)
		check_text(pfa_id, field, item);
	else if (field->kind == PFA_KIND_NUMBER)
		check_number(pfa_id, field, item);
}

/* ---- one record ---- */

static const PfaEditField *
find_writable(const PfaFieldTable *fields, const char *pfa_id,
			  const PfaJsonbItem *item)
{
	const PfaEditField *field = pfa_field_find(fields, item->key,
											   item->key_len);

	if (field == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("record \"%s\": unknown field \"%s\"", pfa_id,
					pnstrdup(item->key, item->key_len)),
			 errhint(
				 "Fields are the keys of pfa_field_mapping; names are case-sensitive.")));
	if (!field->writable)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("record \"%s\": field \"%s\" cannot be edited", pfa_id,
					field->key),
			 errdetail("pfa_field_mapping has no write_name for it."),
			 errhint(
				 "Fields that can be edited are listed by pfa_organization_config.")));
	return field;
}

static void
parse_delta(const PfaFieldTable *fields, PfaChange *change,
			const PfaJsonbItem *delta)
{
	const JsonbContainer *container = (const JsonbContainer *) delta->value;

	if (delta->type != JENTRY_ISCONTAINER || !(container->header & JB_FOBJECT))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("record \"%s\": \"delta\" must be an object",
						change->pfa_id)));
	change->nitems = pfa_jsonb_nmembers(container);
	if (change->nitems == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("record \"%s\": \"delta\" is empty", change->pfa_id),
				 errhint("To drop a draft, use pfa_discard.")));
	change->items = palloc(sizeof(PfaJsonbItem) * change->nitems);
	(void) pfa_jsonb_members(container, change->items);
	for (int i = 0; i < change->nitems; i++)
		check_value(change->pfa_id,
					find_writable(fields, change->pfa_id, &change->items[i]),
					&change->items[i]);
}

static char *
parse_string(const PfaJsonbItem *item, int position, uint32 limit)
{
	if (item->type != JENTRY_ISSTRING || item->len == 0 || item->len > limit)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("modification %d: \"%s\" must be a string of 1 to %u bytes",
					position + 1, pnstrdup(item->key, item->key_len), limit)));
	return pnstrdup(item->value, item->len);
}

static bool
is_key(const PfaJsonbItem *item, const char *key)
{
	return item->key_len == strlen(key) &&
		memcmp(item->key, key, item->key_len) == 0;
}

static void
parse_members(const PfaFieldTable *fields, PfaChange *change,
			  const PfaJsonbItem *items, int n)
{
	const PfaJsonbItem *delta = pfa_jsonb_find(items, n, "delta");
	const PfaJsonbItem *id = pfa_jsonb_find(items, n, "pfaId");

	if (id == NULL || delta == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("modification %d has no \"%s\"", change->position + 1,
					id == NULL ? "pfaId" : "delta"),
			 errhint(
				 "A modification is {\"pfaId\": \"...\", \"delta\": {...}, \"changeReason\": \"...\"}.")));
	change->pfa_id = parse_string(id, change->position, PFA_MIRROR_MAX_KEY);
	change->id_len = id->len;
	for (int i = 0; i < n; i++)
	{
		if (is_key(&items[i], "changeReason"))
		{
			if (items[i].type != JENTRY_ISNULL)
				change->change_reason = parse_string(&items[i],
													 change->position,
													 MAX_REASON);
		}
		else if (&items[i] != id && &items[i] != delta)
			ereport(
				ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("modification %d has an unknown member \"%s\"",
						change->position + 1,
						pnstrdup(items[i].key, items[i].key_len)),
				 errhint(
					 "A modification is {\"pfaId\": \"...\", \"delta\": {...}, \"changeReason\": \"...\"}.")));
	}
	parse_delta(fields, change, delta);
}

static void
parse_change(const PfaFieldTable *fields, PfaChange *change,
			 const JsonbValue *value)
{
	const JsonbContainer *container = value->val.binary.data;
	PfaJsonbItem *items;
	int n;

	if (value->type != jbvBinary || !(container->header & JB_FOBJECT))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("modification %d is not an object",
						change->position + 1)));
	n = pfa_jsonb_nmembers(container);
	items = palloc(sizeof(PfaJsonbItem) * Max(n, 1));
	n = pfa_jsonb_members(container, items);
	parse_members(fields, change, items, n);
}

/* ---- all of them ---- */

static int
compare_changes(const void *a, const void *b)
{
	const PfaChange *x = a;
	const PfaChange *y = b;

	return strcmp(x->pfa_id, y->pfa_id);
}

PfaChange *
pfa_changes_parse(const PfaFieldTable *fields, Jsonb *modifications, int *n)
{
	PfaChange *changes;

	if (!JB_ROOT_IS_ARRAY(modifications) || JB_ROOT_IS_SCALAR(modifications))
		ereport(
			ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("modifications must be an array of objects"),
			 errhint(
				 "For example '[{\"pfaId\": \"...\", \"delta\": {...}}]'.")));
	*n = JB_ROOT_COUNT(modifications);
	if (*n == 0 || *n > PFA_MAX_CHANGES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("modifications must hold 1 to %d elements",
						PFA_MAX_CHANGES),
				 errdetail("There are %d.", *n)));
	changes = palloc0(sizeof(PfaChange) * *n);
	for (int i = 0; i < *n; i++)
	{
		changes[i].position = i;
		parse_change(fields, &changes[i],
					 getIthJsonbValueFromContainer(&modifications->root, i));
	}
	qsort(changes, *n, sizeof(PfaChange), compare_changes);
	for (int i = 1; i < *n; i++)
	{
		if (compare_changes(&changes[i - 1], &changes[i]) == 0)
			ereport(
				ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("record \"%s\" occurs more than once in modifications",
						changes[i].pfa_id),
				 errhint("Put all its fields into one \"delta\".")));
	}
	return changes;
}

/* ---- periods ---- */

static bool
get_date(const PfaJsonbItem *items, int n, const char *key, int32 *days)
{
	const PfaJsonbItem *item = pfa_jsonb_find(items, n, key);

	return item != NULL && item->type == JENTRY_ISSTRING &&
		pfa_mirror_parse_date(item->value, item->len, days);
}

void
pfa_change_check_periods(const char *pfa_id, const PfaJsonbItem *record,
						 int nrecord, const PfaJsonbItem *change, int nchange,
						 const char *hint)
{
	static const char *const periods[][2] = {{"originalStart", "originalEnd"},
											 {"forecastStart", "forecastEnd"},
											 {"actualStart", "actualEnd"}};

	for (int i = 0; i < lengthof(periods); i++)
	{
		const char *start_key = periods[i][0];
		const char *end_key = periods[i][1];
		int32 start;
		int32 end;

		if (pfa_jsonb_find(change, nchange, start_key) == NULL &&
			pfa_jsonb_find(change, nchange, end_key) == NULL)
			continue;
		if (get_date(record, nrecord, start_key, &start) &&
			get_date(record, nrecord, end_key, &end) && end < start)
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("record \"%s\": \"%s\" is before \"%s\"", pfa_id,
							end_key, start_key),
					 errdetail("It would end on %.10s and start on %.10s.",
							   pfa_jsonb_find(record, nrecord, end_key)->value,
							   pfa_jsonb_find(record, nrecord, start_key)
								   ->value),
					 errhint("%s", hint)));
	}
}
