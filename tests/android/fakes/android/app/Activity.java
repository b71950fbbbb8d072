package android.app;

import android.content.ContentResolver;
import android.content.Context;
import android.content.ContextWrapper;
import android.content.Intent;
import android.content.pm.PackageManager;
import android.content.res.AssetManager;
import android.content.res.Resources;
import android.os.Bundle;
import android.view.Display;
import android.view.View;
import android.view.Window;
import android.view.WindowManager;
import android.window.OnBackInvokedCallback;
import android.window.OnBackInvokedDispatcher;
import java.io.File;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Fake: a screen whose views, permissions and answers are the test's. */
public class Activity extends ContextWrapper {
    public static final int RESULT_OK = -1;

    /** Set before an activity is made. */
    public static Map<String, Object> services = new HashMap<>();

    public static File cache;
    public static boolean allowed;
    public static boolean mayAskAgain = true;
    public final Map<Integer, View> views = new HashMap<>();
    public final List<Intent> started = new ArrayList<>();
    public final List<String> asked = new ArrayList<>();
    public final ContentResolver resolver = new ContentResolver();
    public boolean finished;
    public OnBackInvokedCallback onBack;
    private final Window window = new Window();

    public Activity() {
        super(null);
    }

    // What Android calls; the test calls these.

    public void create(Bundle state) {
        onCreate(state);
    }

    public void resume() {
        onResume();
    }

    public void pause() {
        onPause();
    }

    public void save(Bundle state) {
        onSaveInstanceState(state);
    }

    /** What was asked for comes back: between onPause and onResume. */
    public void answer(int request, int result, Intent data) {
        onActivityResult(request, result, data);
    }

    protected void onCreate(Bundle state) {}

    protected void onResume() {}

    protected void onPause() {}

    protected void onSaveInstanceState(Bundle state) {}

    protected void onActivityResult(int request, int result, Intent data) {}

    public void onRequestPermissionsResult(int request, String[] permissions, int[] results) {}

    public void onBackPressed() {
        finished = true;
    }

    // What the app calls.

    public void setContentView(int layout) {}

    public View findViewById(int id) {
        return views.get(id);
    }

    @Override
    public Object getSystemService(String name) {
        return services.get(name);
    }

    @Override
    public Context getApplicationContext() {
        return this;
    }

    @Override
    public ContentResolver getContentResolver() {
        return resolver;
    }

    @Override
    public AssetManager getAssets() {
        return new AssetManager();
    }

    @Override
    public Resources getResources() {
        return new Resources();
    }

    @Override
    public String getPackageName() {
        return "org.retinaface.demo";
    }

    @Override
    public File getCacheDir() {
        return cache;
    }

    @Override
    public int checkSelfPermission(String permission) {
        return allowed ? PackageManager.PERMISSION_GRANTED : PackageManager.PERMISSION_DENIED;
    }

    public void requestPermissions(String[] permissions, int request) {
        asked.add(permissions[0]);
    }

    public boolean shouldShowRequestPermissionRationale(String permission) {
        return mayAskAgain;
    }

    @Override
    public void startActivity(Intent intent) {
        started.add(intent);
    }

    public void startActivityForResult(Intent intent, int request) {
        intent.request = request;
        started.add(intent);
    }

    public boolean isDestroyed() {
        return false;
    }

    public Window getWindow() {
        return window;
    }

    public WindowManager getWindowManager() {
        return new WindowManager() {
            public Display getDefaultDisplay() {
                return new Display();
            }

            public void removeViewImmediate(View view) {}

            public void addView(View view, android.view.ViewGroup.LayoutParams params) {}

            public void updateViewLayout(View view, android.view.ViewGroup.LayoutParams params) {}

            public void removeView(View view) {}
        };
    }

    public OnBackInvokedDispatcher getOnBackInvokedDispatcher() {
        return new OnBackInvokedDispatcher() {
            public void registerOnBackInvokedCallback(int priority, OnBackInvokedCallback callback) {
                onBack = callback;
            }

            public void unregisterOnBackInvokedCallback(OnBackInvokedCallback callback) {
                if (onBack == callback) onBack = null;
            }
        };
    }
}
