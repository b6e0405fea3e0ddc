/*
 * mapping_table.c
 *	  pfa_field_mapping, as the decoder needs it.
 *
 * The rows are edited by administrators, so they are checked here, each time
 * they are read: a sync that cannot tell a record's id or its organization
 * fails with a message that says which row is missing, before PEMS is asked.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "port.h"
#include "utils/builtins.h"

#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"

static PfaKind
parse_kind(const char *kind)
{
	if (strcmp(kind, "number") == 0)
		return PFA_KIND_NUMBER;
	if (strcmp(kind, "date") == 0)
		return PFA_KIND_DATE;
	if (strcmp(kind, "boolean") == 0)
		return PFA_KIND_BOOLEAN;
	return PFA_KIND_TEXT;
}

/* ASCII only: aliases are identifiers, and locales would differ. */
static void
lower_alias(char *alias)
{
	for (char *p = alias; *p != '\0'; p++)
		*p = (char) pg_ascii_tolower((unsigned char) *p);
}

/* The terminating NUL is hashed too and keeps neighbouring texts apart. */
static uint64
add_text(uint64 hash, const char *text)
{
	if (text == NULL)
		return hash_combine64(hash, 1);
	return hash_combine64(hash,
						  hash_bytes_extended((const unsigned char *) text,
											  (int) strlen(text) + 1, 0));
}

/* Of the mapping as a whole; rows come in the order of their keys. */
static uint64
hash_mapping(const PfaMapping *mapping)
{
	uint64 hash = 0;

	for (int i = 0; i < mapping->nfields; i++)
	{
		const PfaField *field = &mapping->fields[i];

		hash = add_text(hash, field->alias);
		hash = add_text(hash, field->key);
		hash = hash_combine64(hash, (uint64) field->kind + 2);
		hash = add_text(hash, field->default_value);
	}
	/* 0 is stored where nothing was read yet */
	return hash == 0 ? 1 : hash;
}

static const PfaField *
find_key(const PfaMapping *mapping, const char *key)
{
	for (int i = 0; i < mapping->nfields; i++)
	{
		if (strcmp(mapping->fields[i].key, key) == 0)
			return &mapping->fields[i];
	}
	return NULL;
}

static void
check_key(const PfaMapping *mapping, const char *key, bool required)
{
	const PfaField *field = find_key(mapping, key);

	if (field == NULL && required)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			 errmsg("field mapping has no row for key \"%s\"", key),
			 errhint(
				 "Add one to pfa_field_mapping; without it records cannot be told apart.")));
	if (field != NULL && field->kind != PFA_KIND_TEXT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("field mapping of key \"%s\" must be of kind text",
						key)));
}

/* A cell of PEMS fills one field, so an alias can stand for one key only. */
static void
check_aliases(const PfaMapping *mapping)
{
	for (int i = 0; i < mapping->nfields; i++)
	{
		for (int j = 0; j < i; j++)
		{
			if (strcmp(mapping->fields[i].alias, mapping->fields[j].alias) == 0)
				ereport(
					ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg(
						 "field mapping reads PEMS field \"%s\" into two keys",
						 mapping->fields[i].alias),
					 errdetail("The keys are \"%s\" and \"%s\".",
							   mapping->fields[j].key, mapping->fields[i].key),
					 errhint(
						 "Change or delete one of the rows of pfa_field_mapping.")));
		}
	}
}

static PfaMapping *
read_rows(MemoryContext ctx, const char *organization_id)
{
	Oid argtypes[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(organization_id)};
	PfaMapping *mapping = MemoryContextAllocZero(ctx, sizeof(PfaMapping));
	uint64 n;

	n = pfa_spi_execute(
		"SELECT DISTINCT ON (key COLLATE \"C\") "
		"pems_alias, key, kind, default_value "
		"FROM @.@.pfa_field_mapping "
		"WHERE organization_id = $1 OR organization_id IS NULL "
		"ORDER BY key COLLATE \"C\", organization_id NULLS LAST",
		1, argtypes, values, NULL, false);
	mapping->nfields = (int) n;
	mapping->fields = MemoryContextAllocZero(ctx, Max(n, 1) * sizeof(PfaField));
	for (uint64 i = 0; i < n; i++)
	{
		PfaField *field = &mapping->fields[i];

		field->alias = pfa_spi_get_text(ctx, i, 1);
		lower_alias(field->alias);
		field->key = pfa_spi_get_text(ctx, i, 2);
		field->kind = parse_kind(pfa_spi_get_text(CurrentMemoryContext, i, 3));
		field->default_value = pfa_spi_get_text(ctx, i, 4);
	}
	pfa_spi_finish();
	return mapping;
}

PfaMapping *
pfa_mapping_load(MemoryContext ctx, const char *organization_id, uint64 *hash)
{
	PfaMapping *mapping = read_rows(ctx, organization_id);

	check_key(mapping, "pfaId", true);
	check_key(mapping, "organization", true);
	check_key(mapping, "pemsVersion", false);
	check_aliases(mapping);
	pfa_mapping_prepare(mapping);
	*hash = hash_mapping(mapping);
	return mapping;
}
