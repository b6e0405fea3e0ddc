/*
 * relations.c
 *	  Our tables and indexes by OID.
 *
 * The OIDs are found by name in the extension's schema, once, and forgotten
 * when the server says that one of the relations has changed: dropped with the
 * extension, or replaced by REINDEX CONCURRENTLY.
 */
#include "postgres.h"

#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "catalog/pfa_catalog.h"
#include "catalog/relations.h"

static const char *const names[PFA_NRELATIONS] = {
	[PFA_REL_MIRROR] = "pfa_mirror",
	[PFA_REL_MODIFICATION] = "pfa_modification",
	[PFA_REL_USER_ORGANIZATION] = "pfa_user_organization",
	[PFA_REL_ORGANIZATION] = "pfa_organization",
	[PFA_REL_SYNC_STATE] = "pfa_sync_state",
	[PFA_REL_FIELD_MAPPING] = "pfa_field_mapping",
	[PFA_REL_MIRROR_KEY] = "pfa_mirror_pkey",
	[PFA_REL_MODIFICATION_DRAFT] = "pfa_modification_draft",
	[PFA_REL_MODIFICATION_DRAFT_TOUCHED] = "pfa_modification_draft_touched",
	[PFA_REL_MODIFICATION_COMMITTED] = "pfa_modification_committed",
	[PFA_REL_MODIFICATION_COMMITTED_TOUCHED] =
		"pfa_modification_committed_touched",
	[PFA_REL_USER_ORGANIZATION_KEY] = "pfa_user_organization_pkey",
	[PFA_REL_ORGANIZATION_KEY] = "pfa_organization_pkey",
	[PFA_REL_SYNC_STATE_KEY] = "pfa_sync_state_pkey",
	[PFA_REL_FIELD_MAPPING_KEY] = "pfa_field_mapping_organization_id_key_key",
};

static struct
{
	bool registered;
	Oid oids[PFA_NRELATIONS];
} relations;

static void
forget_oids(Datum arg, Oid relid)
{
	for (int i = 0; i < PFA_NRELATIONS; i++)
	{
		if (!OidIsValid(relid) || relations.oids[i] == relid)
			relations.oids[i] = InvalidOid;
	}
}

static Oid
find_relation(PfaRelation relation)
{
	Oid schema = pfa_extension_schema();
	Oid relid = get_relname_relid(names[relation], schema);

	if (!OidIsValid(relid))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg(
				 "relation \"%s\" of extension \"pfa_vanguard\" does not exist",
				 names[relation]),
			 errhint(
				 "Update it with ALTER EXTENSION pfa_vanguard UPDATE, or create the index again that was dropped or renamed.")));
	return relid;
}

Oid
pfa_relation_oid(PfaRelation relation)
{
	if (!relations.registered)
	{
		CacheRegisterRelcacheCallback(forget_oids, (Datum) 0);
		relations.registered = true;
	}
	if (unlikely(!OidIsValid(relations.oids[relation])))
		relations.oids[relation] = find_relation(relation);
	return relations.oids[relation];
}
