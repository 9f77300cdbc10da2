"""Databases of a PostgreSQL server."""

import time

import psycopg


def fresh_database(server: str) -> str:
    name = f"t{time.time_ns()}"
    address = server.replace("+psycopg", "") + "postgres"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server + name
