\echo Use "CREATE EXTENSION pfa_vanguard" to load this file. \quit
