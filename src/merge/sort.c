/*
 * sort.c
 *	  The order of pfa_get's records, and cursors.
 *
 * Texts are compared in the database's collation, as ORDER BY would.
 *
 * A cursor is the place of the last record of a page, written as URL-safe
 * base64 of: version, order, listing, a checksum, the value and the id.  It
 * holds nothing that the page did not, and nothing in it is trusted: it only
 * says where to go on.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/varlena.h"

#include "catalog/overlay.h"
#include "merge/sort.h"

#define CURSOR_VERSION 1
/* version, flags, column, unused, listing, checksum, length of the value */
#define CURSOR_HEAD   20
#define CURSOR_PREFIX "pfa"
#define MAX_CURSOR    (16 * 1024 * 1024)
#define MAX_NUMBER    3000

#define FLAG_DESCENDING 1
#define FLAG_NULL       2
#define COLUMN_PFA_ID   255

/* ---- order ---- */

static void
report_sort_by(const char *sort_by)
{
	StringInfoData names;
	int n;
	const PfaMirrorColumn *columns = pfa_mirror_columns(&n);

	initStringInfo(&names);
	appendStringInfoString(&names, "pfaId");
	for (int i = 0; i < n; i++)
		appendStringInfo(&names, ", %s", columns[i].key);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("cannot sort by \"%s\"", sort_by),
			 errdetail("Records can be sorted by: %s.", names.data)));
}

void
pfa_sort_parse(PfaSort *sort, const char *sort_by, const char *sort_order)
{
	sort->column = NULL;
	if (strcmp(sort_by, "pfaId") != 0)
	{
		sort->column = pfa_mirror_column(sort_by, strlen(sort_by));
		if (sort->column == NULL)
			report_sort_by(sort_by);
	}
	sort->descending = strcmp(sort_order, "desc") == 0;
	if (!sort->descending && strcmp(sort_order, "asc") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sort_order must be asc or desc, not \"%s\"",
						sort_order)));
}

static int
compare_texts(Datum a, Datum b)
{
	text *x = DatumGetTextPP(a);
	text *y = DatumGetTextPP(b);

	return varstr_cmp(VARDATA_ANY(x), VARSIZE_ANY_EXHDR(x), VARDATA_ANY(y),
					  VARSIZE_ANY_EXHDR(y), DEFAULT_COLLATION_OID);
}

static int
compare_values(PfaKind kind, Datum a, Datum b)
{
	switch (kind)
	{
		case PFA_KIND_TEXT:
			return compare_texts(a, b);
		case PFA_KIND_NUMBER:
			return DatumGetInt32(DirectFunctionCall2(numeric_cmp, a, b));
		case PFA_KIND_DATE:
			return DatumGetDateADT(a) < DatumGetDateADT(b) ?
				-1 :
				DatumGetDateADT(a) > DatumGetDateADT(b);
		case PFA_KIND_BOOLEAN:
			return (int) DatumGetBool(a) - (int) DatumGetBool(b);
	}
	return 0;
}

int
pfa_sort_compare(const PfaSort *sort, const PfaSortKey *a, const PfaSortKey *b)
{
	int order;

	if (sort->column == NULL)
	{
		order = pfa_compare_ids(a->id, a->id_len, b->id, b->id_len);
		return sort->descending ? -order : order;
	}
	if (a->isnull != b->isnull)
		return a->isnull ? 1 : -1;
	if (!a->isnull)
	{
		order = compare_values(sort->column->kind, a->value, b->value);
		if (order != 0)
			return sort->descending ? -order : order;
	}
	return pfa_compare_ids(a->id, a->id_len, b->id, b->id_len);
}

Datum
pfa_sort_copy_value(const PfaSort *sort, Datum value, bool isnull)
{
	if (isnull || sort->column == NULL)
		return (Datum) 0;
	if (sort->column->kind == PFA_KIND_TEXT ||
		sort->column->kind == PFA_KIND_NUMBER)
		return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	return value;
}

/* ---- URL-safe base64 ---- */

static const char digits64[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void
append_base64(StringInfo out, const unsigned char *bytes, int len)
{
	for (int i = 0; i < len; i += 3)
	{
		uint32 group = (uint32) bytes[i] << 16;

		if (i + 1 < len)
			group |= (uint32) bytes[i + 1] << 8;
		if (i + 2 < len)
			group |= bytes[i + 2];
		appendStringInfoChar(out, digits64[group >> 18]);
		appendStringInfoChar(out, digits64[(group >> 12) & 63]);
		if (i + 1 < len)
			appendStringInfoChar(out, digits64[(group >> 6) & 63]);
		if (i + 2 < len)
			appendStringInfoChar(out, digits64[group & 63]);
	}
}

/* NULL where the text is not base64. */
static unsigned char *
decode_base64(const char *text, int *len)
{
	unsigned char *bytes = palloc(strlen(text) + 1);
	uint32 group = 0;
	int nbits = 0;

	*len = 0;
	for (; *text != '\0'; text++)
	{
		const char *digit = strchr(digits64, *text);

		if (digit == NULL)
			return NULL;
		group = (group << 6) | (uint32) (digit - digits64);
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			bytes[(*len)++] = (unsigned char) (group >> nbits);
			group &= (1u << nbits) - 1;
		}
	}
	return bytes;
}

/* ---- cursors ---- */

static char *
value_text(const PfaSort *sort, const PfaSortKey *key)
{
	if (sort->column == NULL || key->isnull)
		return "";
	switch (sort->column->kind)
	{
		case PFA_KIND_TEXT:
			return TextDatumGetCString(key->value);
		case PFA_KIND_NUMBER:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, key->value));
		case PFA_KIND_DATE:
			return psprintf("%d", DatumGetDateADT(key->value));
		case PFA_KIND_BOOLEAN:
			return DatumGetBool(key->value) ? "t" : "f";
	}
	return "";
}

static unsigned char
column_byte(const PfaSort *sort)
{
	return sort->column == NULL ?
		COLUMN_PFA_ID :
		(unsigned char) pfa_mirror_column_number(sort->column);
}

/* Of what follows the head and of its beginning. */
static uint32
cursor_checksum(const unsigned char *bytes, int len)
{
	return hash_combine(hash_bytes(bytes, 12),
						hash_bytes(bytes + 16, len - 16));
}

char *
pfa_cursor_encode(const PfaSort *sort, uint64 listing, const PfaSortKey *key)
{
	StringInfoData bytes;
	StringInfoData text;
	unsigned char head[CURSOR_HEAD] = {0};
	char *value = value_text(sort, key);
	uint32 value_len = pg_hton32((uint32) strlen(value));
	uint32 checksum;

	listing = pg_hton64(listing);
	head[0] = CURSOR_VERSION;
	head[1] = (sort->descending ? FLAG_DESCENDING : 0) |
		(key->isnull ? FLAG_NULL : 0);
	head[2] = column_byte(sort);
	memcpy(head + 4, &listing, 8);
	memcpy(head + 16, &value_len, 4);
	initStringInfo(&bytes);
	appendBinaryStringInfo(&bytes, (char *) head, CURSOR_HEAD);
	appendStringInfoString(&bytes, value);
	appendBinaryStringInfo(&bytes, key->id, key->id_len);
	checksum = pg_hton32(
		cursor_checksum((unsigned char *) bytes.data, bytes.len));
	memcpy(bytes.data + 12, &checksum, 4);

	initStringInfo(&text);
	appendStringInfoString(&text, CURSOR_PREFIX);
	append_base64(&text, (unsigned char *) bytes.data, bytes.len);
	return text.data;
}

static void
report_cursor(const char *cursor, const char *detail)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("invalid cursor \"%.*s%s\"",
				pg_mbcliplen(cursor, strlen(cursor), 60), cursor,
				strlen(cursor) > 60 ? "..." : ""),
		 errdetail("%s", detail),
		 errhint(
			 "Pass nextCursor of the page before, with the same organization, filters and order; or NULL for the first page.")));
}

static bool
decode_number(const char *text, Datum *value)
{
	if (strlen(text) > MAX_NUMBER || text[0] == '\0' ||
		strspn(text, "0123456789.-") != strlen(text) ||
		strrchr(text, '-') > text || strchr(text, '.') != strrchr(text, '.') ||
		strpbrk(text, "0123456789") == NULL)
		return false;
	*value = DirectFunctionCall3(numeric_in, CStringGetDatum(text),
								 ObjectIdGetDatum(InvalidOid),
								 Int32GetDatum(-1));
	return true;
}

static bool
decode_value(const PfaSort *sort, const char *text, PfaSortKey *key)
{
	char *end;
	long days;

	if (sort->column == NULL || key->isnull)
		return text[0] == '\0';
	switch (sort->column->kind)
	{
		case PFA_KIND_TEXT:
			key->value = CStringGetTextDatum(text);
			return true;
		case PFA_KIND_NUMBER:
			return decode_number(text, &key->value);
		case PFA_KIND_DATE:
			days = strtol(text, &end, 10);
			key->value = DateADTGetDatum((DateADT) days);
			return *end == '\0' && end > text && days >= PG_INT32_MIN &&
				days <= PG_INT32_MAX;
		case PFA_KIND_BOOLEAN:
			key->value = BoolGetDatum(text[0] == 't');
			return strcmp(text, "t") == 0 || strcmp(text, "f") == 0;
	}
	return false;
}

/* What is wrong with it, or NULL. */
static const char *
decode_cursor(const PfaSort *sort, uint64 listing, const char *cursor,
			  PfaSortKey *key)
{
	static const char *const damaged =
		"It is not a cursor of pfa_get, or not whole.";
	unsigned char *bytes;
	int len;
	uint32 value_len;
	uint32 checksum;
	uint64 made_for;
	char *rest;

	if (strlen(cursor) > MAX_CURSOR ||
		strncmp(cursor, CURSOR_PREFIX, strlen(CURSOR_PREFIX)) != 0)
		return damaged;
	bytes = decode_base64(cursor + strlen(CURSOR_PREFIX), &len);
	if (bytes == NULL || len < CURSOR_HEAD)
		return damaged;
	memcpy(&made_for, bytes + 4, 8);
	memcpy(&checksum, bytes + 12, 4);
	memcpy(&value_len, bytes + 16, 4);
	value_len = pg_ntoh32(value_len);
	if (pg_ntoh32(checksum) != cursor_checksum(bytes, len) ||
		bytes[0] != CURSOR_VERSION || value_len > (uint32) (len - CURSOR_HEAD))
		return damaged;
	if (bytes[2] != column_byte(sort) ||
		((bytes[1] & FLAG_DESCENDING) != 0) != sort->descending)
		return "It was made in another order.";
	if (pg_ntoh64(made_for) != listing)
		return "It was made for another organization or other filters.";

	rest = (char *) bytes + CURSOR_HEAD;
	len -= CURSOR_HEAD;
	if (memchr(rest, '\0', len) != NULL ||
		!pg_verifymbstr(rest, value_len, true) ||
		!pg_verifymbstr(rest + value_len, len - value_len, true))
		return damaged;
	key->isnull = (bytes[1] & FLAG_NULL) != 0;
	key->value = (Datum) 0;
	key->id = rest + value_len;
	key->id_len = len - value_len;
	return decode_value(sort, pnstrdup(rest, value_len), key) ? NULL : damaged;
}

void
pfa_cursor_decode(const PfaSort *sort, uint64 listing, const char *cursor,
				  PfaSortKey *key)
{
	const char *detail = decode_cursor(sort, listing, cursor, key);

	if (detail != NULL)
		report_cursor(cursor, detail);
}
