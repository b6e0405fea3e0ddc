/*
 * user_organization.c
 *	  Who is calling, and what that user may do.
 *
 * The caller is the current role: a SECURITY DEFINER function that wraps our
 * calls acts as its owner, as it does towards tables.  Memberships are read
 * under the active snapshot, so that policies and functions of one statement
 * agree.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog/pfa_catalog.h"
#include "catalog/read.h"
#include "catalog/spi.h"
#include "catalog/user_organization.h"
#include "guc.h"

/* Attribute numbers of pfa_user_organization. */
#define MEMBER_ORGANIZATION 2
#define MEMBER_ROLE         3

static const char *const role_names[] = {[PFA_ROLE_NONE] = "none",
										 [PFA_ROLE_VIEWER] = "viewer",
										 [PFA_ROLE_EDITOR] = "editor",
										 [PFA_ROLE_ADMIN] = "admin"};

PfaRole
pfa_role_parse(const char *word, size_t len)
{
	for (int role = PFA_ROLE_VIEWER; role <= PFA_ROLE_ADMIN; role++)
	{
		if (strlen(role_names[role]) == len &&
			memcmp(role_names[role], word, len) == 0)
			return (PfaRole) role;
	}
	return PFA_ROLE_NONE;
}

const char *
pfa_role_name(PfaRole role)
{
	return role_names[role];
}

const char *
pfa_caller_id(void)
{
	const char *user_id = pfa_guc_user_id();

	return user_id != NULL ? user_id : GetUserNameFromId(GetUserId(), false);
}

bool
pfa_caller_is_owner(void)
{
	HeapTuple tuple;
	Oid owner;

	if (superuser())
		return true;
	tuple = SearchSysCache1(RELOID,
							ObjectIdGetDatum(pfa_relation_oid(PFA_REL_MIRROR)));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for pfa_mirror");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return has_privs_of_role(GetUserId(), owner);
}

static PfaRole
slot_role(TupleTableSlot *slot)
{
	text *role = DatumGetTextPP(pfa_slot_value(slot, MEMBER_ROLE));

	return pfa_role_parse(VARDATA_ANY(role), VARSIZE_ANY_EXHDR(role));
}

PfaRole
pfa_member_role(const char *user_id, const char *organization_id)
{
	PfaRole role = PFA_ROLE_NONE;
	PfaRead read;
	NullableDatum key[] = {pfa_string_value(user_id),
						   pfa_string_value(organization_id)};

	pfa_read_open(&read, PFA_REL_USER_ORGANIZATION,
				  PFA_REL_USER_ORGANIZATION_KEY, GetActiveSnapshot());
	pfa_read_seek(&read, key, lengthof(key));
	if (pfa_read_next(&read))
		role = slot_role(read.slot);
	pfa_read_close(&read);
	return role;
}

PfaRole
pfa_caller_role(const char *organization_id)
{
	if (pfa_caller_is_owner())
		return PFA_ROLE_ADMIN;
	return pfa_member_role(pfa_caller_id(), organization_id);
}

void
pfa_caller_require(const char *organization_id, PfaRole role)
{
	PfaRole held = pfa_caller_role(organization_id);

	if (likely(held >= role))
		return;
	if (held == PFA_ROLE_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("no access to organization \"%s\"", organization_id),
				 errdetail(
					 "It does not exist, or user \"%s\" is not a member of it.",
					 pfa_caller_id()),
				 errhint("Memberships are rows of pfa_user_organization.")));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("user \"%s\" is %s in organization \"%s\"", pfa_caller_id(),
					pfa_role_name(held), organization_id),
			 errdetail("This takes the role %s.", pfa_role_name(role))));
}

bool
pfa_organization_exists(const char *organization_id)
{
	PfaRead read;
	NullableDatum key = pfa_string_value(organization_id);
	bool found;

	pfa_read_open(&read, PFA_REL_ORGANIZATION, PFA_REL_ORGANIZATION_KEY,
				  GetActiveSnapshot());
	pfa_read_seek(&read, &key, 1);
	found = pfa_read_next(&read);
	pfa_read_close(&read);
	return found;
}

/* The first column of the first row, in the caller's context; NULL: none. */
static Jsonb *
read_document(const char *text, const char *name)
{
	Oid argtypes[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(name)};
	MemoryContext caller = CurrentMemoryContext;
	Jsonb *document = NULL;
	bool isnull;

	if (pfa_spi_execute(text, 1, argtypes, values, NULL, true) > 0)
	{
		Datum value = pfa_spi_get_datum(0, 1, &isnull);
		MemoryContext spi = MemoryContextSwitchTo(caller);

		document = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(spi);
	}
	pfa_spi_finish();
	return document;
}

Jsonb *
pfa_permissions_read(const char *user_id)
{
	return read_document("SELECT @.@.pfa_read_permissions($1)", user_id);
}

Jsonb *
pfa_organization_config_read(const char *organization_id)
{
	return read_document("SELECT jsonb_build_object("
						 "'organizationId', o.organization_id, "
						 "'pemsOrganization', o.pems_organization, "
						 "'syncIntervalSeconds', "
						 "EXTRACT(epoch FROM o.sync_interval)::int8, "
						 "'paused', o.paused, "
						 "'fields', (SELECT jsonb_agg(jsonb_build_object("
						 "'key', f.key, 'kind', f.kind, "
						 "'editable', f.write_name IS NOT NULL, "
						 "'default', f.default_value) "
						 "ORDER BY f.key COLLATE \"C\") FROM ("
						 "SELECT DISTINCT ON (m.key COLLATE \"C\") m.key, "
						 "m.kind, m.write_name, m.default_value "
						 "FROM @.@.pfa_field_mapping m "
						 "WHERE m.organization_id = $1 "
						 "OR m.organization_id IS NULL "
						 "ORDER BY m.key COLLATE \"C\", "
						 "m.organization_id NULLS LAST) f)) "
						 "FROM @.@.pfa_organization o "
						 "WHERE o.organization_id = $1",
						 organization_id);
}

/* ---- lists ---- */

static void
add_organization(Datum **list, int *n, Datum organization)
{
	if ((*n & (*n - 1)) == 0)
		*list = *n == 0 ? palloc(sizeof(Datum)) :
						  repalloc(*list, sizeof(Datum) * *n * 2);
	(*list)[(*n)++] = PointerGetDatum(DatumGetTextPCopy(organization));
}

static int
all_organizations(Datum **organizations)
{
	Relation rel = table_open(pfa_relation_oid(PFA_REL_ORGANIZATION),
							  AccessShareLock);
	TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int n = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		add_organization(organizations, &n, pfa_slot_value(slot, 1));
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return n;
}

int
pfa_caller_organizations(PfaRole role, Datum **organizations)
{
	PfaRead read;
	NullableDatum key;
	int n = 0;

	*organizations = NULL;
	if (pfa_caller_is_owner())
		return all_organizations(organizations);
	key = pfa_string_value(pfa_caller_id());
	pfa_read_open(&read, PFA_REL_USER_ORGANIZATION,
				  PFA_REL_USER_ORGANIZATION_KEY, GetActiveSnapshot());
	pfa_read_seek(&read, &key, 1);
	while (pfa_read_next(&read))
	{
		if (slot_role(read.slot) >= role)
			add_organization(organizations, &n,
							 pfa_slot_value(read.slot, MEMBER_ORGANIZATION));
	}
	pfa_read_close(&read);
	return n;
}
