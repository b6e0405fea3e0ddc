/*
 * access_api.c
 *	  Who is calling, and what for: what policies and clients ask.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "api/cached.h"
#include "catalog/user_organization.h"
#include "metrics/counters.h"

PG_FUNCTION_INFO_V1(pfa_current_user_id);
PG_FUNCTION_INFO_V1(pfa_my_organizations);

/* pfa_current_user_id() returns text */
Datum
pfa_current_user_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(pfa_caller_id()));
}

/* pfa_my_organizations(role text) returns text[], strict */
Datum
pfa_my_organizations(PG_FUNCTION_ARGS)
{
	text *word = PG_GETARG_TEXT_PP(0);
	PfaRole role = pfa_role_parse(VARDATA_ANY(word), VARSIZE_ANY_EXHDR(word));
	Datum *organizations;
	int n;

	if (role == PFA_ROLE_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown role \"%s\"", text_to_cstring(word)),
				 errhint("Roles are viewer, editor and admin.")));
	n = pfa_caller_organizations(role, &organizations);
	PG_RETURN_ARRAYTYPE_P(
		construct_array(organizations, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static Jsonb *
compute_config(void *arg)
{
	return pfa_organization_config_read(arg);
}

/* pfa_organization_config(organization_id text) returns jsonb, strict */
PFA_API_FUNCTION(pfa_organization_config, PFA_ENDPOINT_ORGANIZATION_CONFIG)
{
	char *organization_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Jsonb *config;

	pfa_caller_require(organization_id, PFA_ROLE_VIEWER);
	config = pfa_cached_config(organization_id, compute_config,
							   organization_id);
	if (config == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("organization \"%s\" does not exist",
						organization_id)));
	PG_RETURN_JSONB_P(config);
}

static Jsonb *
compute_permissions(void *arg)
{
	return pfa_permissions_read(arg);
}

/* pfa_own_permissions() returns jsonb: pfa_permissions() of the caller */
PFA_API_FUNCTION(pfa_own_permissions, PFA_ENDPOINT_PERMISSIONS)
{
	char *user_id = pstrdup(pfa_caller_id());

	PG_RETURN_JSONB_P(
		pfa_cached_permissions(user_id, compute_permissions, user_id));
}
