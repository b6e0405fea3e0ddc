/*
 * user_organization.h
 *	  Who is calling, and what pfa_user_organization lets that user do.
 */
#ifndef PFA_USER_ORGANIZATION_H
#define PFA_USER_ORGANIZATION_H

#include "postgres.h"
#include "utils/jsonb.h"

typedef enum PfaRole
{
	PFA_ROLE_NONE,
	PFA_ROLE_VIEWER, /* reads */
	PFA_ROLE_EDITOR, /* also drafts and commits */
	PFA_ROLE_ADMIN   /* also sees the drafts of others */
} PfaRole;

/* NONE for a word that is no role. */
extern PfaRole pfa_role_parse(const char *word, size_t len);
extern const char *pfa_role_name(PfaRole role);

/* The user, palloc'd or static: pfa_vanguard.user_id, else the role's name. */
extern const char *pfa_caller_id(void);

/* Superusers, and the owner of the extension's tables. */
extern bool pfa_caller_is_owner(void);

/* Owners are admins everywhere. */
extern PfaRole pfa_caller_role(const char *organization_id);
/* The same for any user, without regard to what the calling role is. */
extern PfaRole
pfa_member_role(const char *user_id, const char *organization_id);

/*
 * An error unless the caller has at least this role.  Who is no member is not
 * told whether the organization exists.
 */
extern void pfa_caller_require(const char *organization_id, PfaRole role);

/* Whether pfa_organization has it. */
extern bool pfa_organization_exists(const char *organization_id);

/* A user's memberships for a client, without regard to who asks. */
extern Jsonb *pfa_permissions_read(const char *user_id);

/* Its settings and fields for a client; NULL where there is none. */
extern Jsonb *pfa_organization_config_read(const char *organization_id);

/* Organizations in which the caller has at least this role, as text datums. */
extern int pfa_caller_organizations(PfaRole role, Datum **organizations);

#endif /* PFA_USER_ORGANIZATION_H */
