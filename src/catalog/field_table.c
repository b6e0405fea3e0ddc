/*
 * field_table.c
 *	  The field mapping, kept by each backend.
 *
 * The rows change once in months and are needed by every draft and by every
 * merged record whose costs depend on a change, so they are kept.  A trigger on
 * pfa_field_mapping (pfa_field_mapping_forget) sends a relcache invalidation of
 * the table at each change; it reaches every backend when the change commits.
 *
 * The rows are read under a fresh snapshot, as catalogs are: under the
 * transaction's own, which may be old, they would be kept although the message
 * that they have changed has already been seen.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "catalog/cost.h"
#include "catalog/field_table.h"
#include "catalog/read.h"
#include "registry.h"

/* Attribute numbers of pfa_field_mapping. */
#define FIELD_KEY     3
#define FIELD_KIND    4
#define FIELD_DEFAULT 5
#define FIELD_WRITE   6

/* More organizations than this and the oldest knowledge is thrown away. */
#define MAX_TABLES 256

typedef struct TableEntry
{
	char organization_id[PFA_ORGANIZATION_LEN]; /* hash key */
	PfaFieldTable table;
} TableEntry;

static struct
{
	bool registered;
	bool stale;
	Oid relid;             /* pfa_field_mapping, when it was read */
	MemoryContext context; /* of the tables; NULL: none is known */
	HTAB *tables;
} known;

static void
note_change(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == known.relid)
		known.stale = true;
}

/* An empty set of tables. */
static void
start_over(void)
{
	HASHCTL ctl = {0};

	if (!known.registered)
	{
		CacheRegisterRelcacheCallback(note_change, (Datum) 0);
		known.registered = true;
	}
	if (known.context != NULL)
		MemoryContextDelete(known.context);
	known.context = NULL;
	/* Below the context that the server keeps its own caches in. */
	known.context = AllocSetContextCreate(CacheMemoryContext,
										  "pfa_vanguard fields",
										  ALLOCSET_SMALL_SIZES);
	ctl.keysize = PFA_ORGANIZATION_LEN;
	ctl.entrysize = sizeof(TableEntry);
	ctl.hcxt = known.context;
	known.tables = hash_create("pfa_vanguard fields", 16, &ctl,
							   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	known.stale = false;
	known.relid = pfa_relation_oid(PFA_REL_FIELD_MAPPING);
}

/* ---- reading ---- */

static PfaKind
parse_kind(Datum value)
{
	text *kind = DatumGetTextPP(value);

	switch (*VARDATA_ANY(kind))
	{
		case 'n':
			return PFA_KIND_NUMBER;
		case 'd':
			return PFA_KIND_DATE;
		case 'b':
			return PFA_KIND_BOOLEAN;
		default:
			return PFA_KIND_TEXT;
	}
}

/* What the mirror holds where PEMS has a blank; a wrong default is none. */
static void
set_blank(PfaEditField *field, const char *text)
{
	PfaBatch *batch = pfa_batch_create();
	PfaValue value;
	const char *reason;
	int year;
	int month;
	int day;

	pfa_jsonb_set_null(&field->blank, NULL);
	if (batch == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (pfa_value_decode(field->kind, text, strlen(text), batch, &value,
						 &reason) &&
		!value.isnull)
	{
		switch (field->kind)
		{
			case PFA_KIND_TEXT:
				pfa_jsonb_set_string(&field->blank, NULL, pstrdup(text),
									 strlen(text));
				break;
			case PFA_KIND_BOOLEAN:
				pfa_jsonb_set_bool(&field->blank, NULL, value.boolean);
				break;
			case PFA_KIND_NUMBER:
				if (!pfa_value_is_odd(&value))
					pfa_jsonb_set_numeric(&field->blank, NULL,
										  pfa_value_numeric(&value));
				break;
			case PFA_KIND_DATE:
				j2date(value.days + POSTGRES_EPOCH_JDATE, &year, &month, &day);
				pfa_jsonb_set_string(&field->blank, NULL,
									 psprintf("%04d-%02d-%02d", year, month,
											  day),
									 10);
				break;
		}
	}
	pfa_batch_free(batch);
}

static void
set_field(PfaEditField *field, TupleTableSlot *slot)
{
	bool isnull;
	Datum value;

	field->key = TextDatumGetCString(pfa_slot_value(slot, FIELD_KEY));
	field->key_len = strlen(field->key);
	field->kind = parse_kind(pfa_slot_value(slot, FIELD_KIND));
	(void) slot_getattr(slot, FIELD_WRITE, &isnull);
	field->writable = !isnull;
	value = slot_getattr(slot, FIELD_DEFAULT, &isnull);
	if (isnull)
		pfa_jsonb_set_null(&field->blank, NULL);
	else
		set_blank(field, TextDatumGetCString(value));
}

static PfaEditField *
find_field(const PfaFieldTable *table, const char *key, uint32 len)
{
	for (int i = 0; i < table->nfields; i++)
	{
		if (table->fields[i].key_len == len &&
			memcmp(table->fields[i].key, key, len) == 0)
			return &table->fields[i];
	}
	return NULL;
}

/* Rows of the key that is set; those that are known by then are kept. */
static void
add_rows(PfaFieldTable *table, PfaRead *read, const NullableDatum *key)
{
	pfa_read_seek(read, key, 1);
	while (pfa_read_next(read))
	{
		text *name = DatumGetTextPP(pfa_slot_value(read->slot, FIELD_KEY));

		if (find_field(table, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) !=
			NULL)
			continue;
		if ((table->nfields & (table->nfields - 1)) == 0)
			table->fields = table->nfields == 0 ?
				palloc(sizeof(PfaEditField)) :
				repalloc(table->fields,
						 sizeof(PfaEditField) * table->nfields * 2);
		set_field(&table->fields[table->nfields++], read->slot);
	}
}

static int
compare_fields(const void *a, const void *b)
{
	const PfaEditField *x = a;
	const PfaEditField *y = b;

	return pfa_jsonb_compare_keys(x->key, x->key_len, y->key, y->key_len);
}

/* The organization's own rows, and the default rows of other keys. */
static void
load_table(PfaFieldTable *table, const char *organization_id)
{
	Snapshot snapshot;
	PfaRead read;
	NullableDatum own = pfa_string_value(organization_id);
	NullableDatum defaults = {(Datum) 0, true};

	memset(table, 0, sizeof(*table));
	snapshot = RegisterSnapshot(GetCatalogSnapshot(known.relid));
	pfa_read_open(&read, PFA_REL_FIELD_MAPPING, PFA_REL_FIELD_MAPPING_KEY,
				  snapshot);
	add_rows(table, &read, &own);
	add_rows(table, &read, &defaults);
	pfa_read_close(&read);
	UnregisterSnapshot(snapshot);
	if (table->nfields > 0)
		qsort(table->fields, table->nfields, sizeof(PfaEditField),
			  compare_fields);
}

const PfaFieldTable *
pfa_field_table(const char *organization_id)
{
	TableEntry *entry;
	PfaFieldTable table;
	MemoryContext caller;
	bool found;

	if (known.context == NULL || known.stale ||
		hash_get_num_entries(known.tables) >= MAX_TABLES)
		start_over();
	entry = hash_search(known.tables, organization_id, HASH_FIND, &found);
	if (found)
		return &entry->table;

	caller = MemoryContextSwitchTo(known.context);
	load_table(&table, organization_id);
	entry = hash_search(known.tables, organization_id, HASH_ENTER, &found);
	entry->table = table;
	MemoryContextSwitchTo(caller);
	return &entry->table;
}

const PfaEditField *
pfa_field_find(const PfaFieldTable *table, const char *key, uint32 len)
{
	int low = 0;
	int high = table->nfields;

	while (low < high)
	{
		int middle = (low + high) / 2;
		const PfaEditField *field = &table->fields[middle];
		int order = pfa_jsonb_compare_keys(field->key, field->key_len, key,
										   len);

		if (order == 0)
			return field;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}
