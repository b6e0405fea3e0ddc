/*
 * mapping.c
 *	  Which field of the mapping a PEMS alias is.
 */
#include "record/record.h"

#include <string.h>

#include "record/hash.h"

static inline unsigned char
fold(char c)
{
	return (unsigned char) (c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

/*
 * FNV-1a of the folded name.  It only spares comparisons: nearly all aliases
 * of a grid begin with the same letters.
 */
static uint32_t
hash_alias(const char *alias, size_t len)
{
	uint32_t hash = 2166136261u;
	size_t i;

	for (i = 0; i < len; i++)
		hash = (hash ^ fold(alias[i])) * 16777619u;
	return hash;
}

static bool
same_alias(const char *lower, const char *alias, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
	{
		if (lower[i] == '\0' || fold(lower[i]) != fold(alias[i]))
			return false;
	}
	return lower[len] == '\0';
}

static int
find_key(const PfaMapping *mapping, const char *key)
{
	int i;

	for (i = 0; i < mapping->nfields; i++)
	{
		if (strcmp(mapping->fields[i].key, key) == 0)
			return i;
	}
	return -1;
}

void
pfa_mapping_prepare(PfaMapping *mapping)
{
	int i;

	mapping->seed = 0;
	for (i = 0; i < mapping->nfields; i++)
	{
		PfaField *field = &mapping->fields[i];

		field->alias_hash = hash_alias(field->alias, strlen(field->alias));
		field->seed = pfa_hash_bytes(field->key, strlen(field->key),
									 (uint64_t) field->kind);
		mapping->seed += pfa_hash_bytes("key", 3, field->seed);
	}
	mapping->id_field = find_key(mapping, "pfaId");
	mapping->organization_field = find_key(mapping, "organization");
	mapping->version_field = find_key(mapping, "pemsVersion");
}

int
pfa_mapping_find(const PfaMapping *mapping, const char *alias, size_t len)
{
	uint32_t hash = hash_alias(alias, len);
	int i;

	for (i = 0; i < mapping->nfields; i++)
	{
		const PfaField *field = &mapping->fields[i];

		if (field->alias_hash == hash && same_alias(field->alias, alias, len))
			return i;
	}
	return -1;
}
