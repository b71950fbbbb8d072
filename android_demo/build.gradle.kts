plugins {
    alias(libs.plugins.android.application) apply false
    // AGP compiles Kotlin itself; that this plugin is on the class path makes it use this version for both modules.
    alias(libs.plugins.kotlin.jvm) apply false
}
