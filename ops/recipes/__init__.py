"""Recipes: named settings for what many people want, and which files of a folder are what."""

from perennial.ops.recipes.recipe import RECIPES, FileRole, FolderFile, Recipe, RecipeModel, recipe_named

__all__ = ["RECIPES", "FileRole", "FolderFile", "Recipe", "RecipeModel", "recipe_named"]
